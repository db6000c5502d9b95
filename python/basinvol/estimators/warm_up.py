"""A reference Gaussian and a temperature for chains that start inside a basin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends.unit_vector import unit_vectors
from ..progress import progress_bar
from .batched import BatchedLoss
from .checkpoint import Checkpoint
from .curvature import feature_groups, fit_radii, fit_secants, group_sums
from .hamiltonian import Chains, Gibbs, Hamiltonian, Whitening
from .stages import Stage
from .task import Task, UniformRays, in_chunks
from .tilt import Tilt

# Most parameters to fit all correlations, and fewest points of chains and rays for each.
MOST_DENSE, _POINTS_EACH, _RAYS_EACH = 500, 5, 2
_LAST_WINDOW = 3  # the last window is this many times as long as the others
_START = 0.9  # chains begin at this share of the radius, inside


@dataclass(frozen=True)
class Warmed:
    """Chains at the target, and how they move.

    Attributes:
        hamiltonian: the moves, with the reference Gaussian fitted to the chains.
        chains: the K chains.
        growth: log of the ratio of the reference Gaussian's volumes after the last two windows. nats
        yardstick: variances of the window before the last, which was fitted to other points. [P] float64
    """

    hamiltonian: Hamiltonian
    chains: Chains
    growth: float
    yardstick: Tensor

    def statistics(self, chains: Chains) -> tuple[Tensor, Tensor]:
        """The loss and the size, in units of the yardstick, of every chain. [K] each"""
        return chains.loss, (chains.x.square() / self.yardstick).sum(dim=1)


def warm_up(
    task: Task, start: tuple[Hamiltonian, Chains], num_windows: int, window: int, checkpoint: Checkpoint
) -> Warmed:
    """Moves the chains at the target in windows; after each, the reference Gaussian is fitted to them.

    Beta is tuned too, but for the last window, and the step adapts with every move.

    Args:
        task: the basin.
        start: moves, and chains inside the basin, from `start_inside`.
        num_windows: number of windows.
        window: moves in a window; the last window is three times as long.
        checkpoint: where the chains are kept after every window, and found by a call that goes on.
    """
    hamiltonian, chains = start
    yardstick = variance = torch.full((task.space.dim,), math.nan, dtype=torch.float64)
    done, kept = 0, checkpoint.restored()
    if kept is not None:
        done, chains, yardstick, variance = (kept[name] for name in ("done", "chains", "yardstick", "variance"))
        hamiltonian = hamiltonian.with_target(kept["whitening"], kept["gibbs"])
        hamiltonian.step = kept["step"]
    num_moves = [window] * (num_windows - 1) + [window * _LAST_WINDOW]
    with progress_bar(task.progress, sum(num_moves), "warm-up", "move") as bar:
        bar.update(sum(num_moves[:done]))
        for number, count in enumerate(num_moves[done:], done + 1):
            samples = []
            for move in range(count):
                chains = hamiltonian.move(chains, 1.0, adapts=True)
                bar.update()
                if move >= window // 2:  # before that, chains still remember where they started
                    samples.append(chains)
            points = torch.stack([sample.x for sample in samples])
            rise = float(torch.stack([sample.loss for sample in samples]).mean()) - hamiltonian.gibbs.center_loss
            # The last window is a sample of what production will sample.
            gibbs = hamiltonian.gibbs
            if number < num_windows:
                gibbs = _tuned(gibbs, task, rise, float(points.square().sum(2).mean()))
            yardstick, variance = variance, points.flatten(0, 1).var(dim=0)
            hamiltonian = hamiltonian.with_target(fitted_whitening(points, hamiltonian.whitening.axes), gibbs)
            moves = {"whitening": hamiltonian.whitening, "gibbs": gibbs, "step": hamiltonian.step}
            checkpoint.keep({"done": number, "chains": chains, "yardstick": yardstick, "variance": variance, **moves})
    return Warmed(hamiltonian, chains, 0.5 * float((variance / yardstick).log().sum()), yardstick)


def start_inside(
    task: Task,
    energy: BatchedLoss,
    rays: UniformRays,
    num_chains: int,
    num_leapfrog: int,
    generator: torch.Generator,
) -> tuple[Hamiltonian, Chains]:
    """A first Gaussian from radii along uniform directions, and chains inside the basin.

    Args:
        task: the basin.
        energy: its loss at many points.
        rays: solved rays, from which the Gaussian takes its widths and the chains their first positions.
        num_chains: K.
        num_leapfrog: leapfrog steps of a trajectory.
        generator: generator of the chains' random numbers.
    """
    dim, directions, radius = task.space.dim, rays.directions, rays.radii.entering
    curvature, axes = _fitted_ellipsoid(task, energy, rays)
    tilt = Tilt.of(curvature, task.measure)
    precision = tilt.precision(curvature)
    limit = task.measure.radius_max(dim) ** 2
    # Even a ball that the ellipsoid does not reach may bind the basin; the warm-up lowers what is not needed.
    base = max(tilt.base, 0.5 * dim / limit) if task.measure.is_ball else 0.0
    gibbs = Gibbs(tilt.tau / (2.0 * (task.cutoff - rays.center_loss)), base, rays.center_loss)
    whitening = Whitening(torch.zeros_like(precision), precision.rsqrt(), axes)
    hamiltonian = Hamiltonian(energy, whitening, gibbs, num_leapfrog, first_step(dim), generator)
    rows = torch.arange(num_chains) % len(radius)
    vectors = unit_vectors(directions, rows.tolist())
    # Chains do not start farther out than the Gaussian has mass.
    reach = torch.minimum(radius[rows].clamp(max=math.sqrt(limit)), (1.0 / precision).sum().sqrt())
    return hamiltonian, hamiltonian.start(_START * reach[:, None] * vectors)


def _fitted_ellipsoid(task: Task, energy: BatchedLoss, rays: UniformRays) -> tuple[Tensor, Tensor | None]:
    """Curvatures of the basin [P], and their axes [P, P], or None where these are the coordinates."""
    dim, radius = task.space.dim, rays.radii.entering
    vectors, ends = _boundary(task, rays)
    axes = _secant_axes(task, energy, rays, vectors, ends)
    if axes is not None:
        # Radii give the lengths of bodies that are not quadratic better than gradients do, which grow faster outward.
        return fit_radii((vectors @ axes).square(), ends), axes
    groups, count = feature_groups(task.space, "diagonal" if len(radius) >= _RAYS_EACH * dim else "grouped")
    chunks = in_chunks(rays.directions, range(len(radius)))
    features = torch.cat([group_sums(part.square(), groups, count) for _, part in chunks])
    return fit_radii(features, radius)[groups], None


def fit_axes(task: Task, energy: BatchedLoss, rays: UniformRays) -> Tensor | None:
    """Axes of the basin from gradients at the ends of rays; None where P is too large for a matrix. [P, P]

    They shape how chains move, and change no number in the mean.

    Args:
        task: the basin.
        energy: its loss at many points.
        rays: solved rays; where they are fewer than two for each parameter, more are solved.
    """
    return _secant_axes(task, energy, rays, *_boundary(task, rays))


def _secant_axes(task: Task, energy: BatchedLoss, rays: UniformRays, vectors: Tensor, ends: Tensor) -> Tensor | None:
    points = ends[:, None] * vectors
    if not len(points):
        return None
    _, gradients = energy.with_gradients(points)
    is_usable = torch.isfinite(points).all(dim=1) & torch.isfinite(gradients).all(dim=1)
    if int(is_usable.sum()) < task.space.dim:
        return None
    return fit_secants(points[is_usable], gradients[is_usable], task.cutoff - rays.center_loss)[1]


def _boundary(task: Task, rays: UniformRays) -> tuple[Tensor, Tensor]:
    """Unit vectors [n, P] and radii [n] of two rays for each parameter; none where P is too large for a matrix."""
    dim, radius = task.space.dim, rays.radii.entering
    count = _RAYS_EACH * dim if dim <= MOST_DENSE else 0
    vectors, ends = unit_vectors(rays.directions, range(min(len(radius), count))), radius[:count]
    if count > len(ends):
        more = task.directions(count - len(ends), Stage.PILOT)
        vectors = torch.cat([vectors, unit_vectors(more, range(count - len(ends)))])
        ends = torch.cat([ends, task.solver(more).solve_all(task.progress, "rays for axes").at().entering])
    return vectors, ends


def first_step(dim: int) -> float:
    """A leapfrog step that a standard Gaussian accepts, P^(-1/4) up to a factor (Beskos et al. 2013)."""
    return 0.5 / math.sqrt(math.sqrt(dim))


def fitted_whitening(points: Tensor, axes: Tensor | None = None) -> Whitening:
    """The Gaussian with the moments of points [moves, K, P]: with all correlations where there are points enough.

    Args:
        points: positions of the chains.
        axes: axes along which the variances are taken where there are not; None for the coordinates. [P, P]
    """
    flat = points.flatten(0, 1)
    mean, variance = flat.mean(dim=0), flat.var(dim=0)
    count, dim = flat.shape
    floor = 1e-12 * float(variance.mean())
    if dim > MOST_DENSE or count < _POINTS_EACH * dim:
        along = variance if axes is None else ((flat - mean) @ axes).var(dim=0)
        return Whitening(mean, (along + floor).sqrt(), axes)
    # Shrunk toward the diagonal, as a covariance from few points exaggerates its own extremes.
    shrink = dim / (count + dim)
    values, found = torch.linalg.eigh((1.0 - shrink) * torch.cov(flat.T) + torch.diag(shrink * variance))
    # Chains that drift along unbounded directions span more than float64 resolves.
    return Whitening(mean, values.clamp(min=floor).sqrt(), found)


def _tuned(gibbs: Gibbs, task: Task, rise: float, norm: float) -> Gibbs:
    """The target with beta, and in a ball the precision, moved so that the mean loss nears the cutoff and |x|^2 R^2."""
    # Clamped, because a window is a small sample of chains that have not settled yet.
    beta = gibbs.beta * min(max(rise / (task.cutoff - gibbs.center_loss), 0.5), 2.0)
    precision = gibbs.precision
    if task.measure.is_ball:
        precision *= min(max(norm / task.measure.radius_max(task.space.dim) ** 2, 0.25), 2.0)
    return Gibbs(beta, precision, gibbs.center_loss)
