"""Chains annealed from a Gaussian to the basin, and the exact way from their free energy to a volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..diagnostics import Verdict, log_mean_exp, weight_statistics
from ..result import Volume
from .batched import BatchedLoss
from .curvature import feature_groups, fit_radii, group_sums
from .groups import volume_of_groups
from .hamiltonian import Chains, Gibbs, Hamiltonian, Whitening
from .task import Outcome, Task, in_chunks
from .tilt import Tilt

_CHAIN_STAGE = 30
_MOST_RAYS = 1000
_MOST_DENSE, _POINTS_EACH = 300, 5  # parameters, and points for each, for a reference with all correlations
# Target of the conditional effective sample size between two temperatures of the pilot (Zhou, Johansen, Aston 2016).
_CONDITIONAL_ESS = 0.9
_MOST_TEMPERATURES = 2000
_BISECTIONS = 60
_LARGEST_BETA = 50.0  # times P / (cutoff - center loss), far beyond any basin's
_RESHAPE = 1.5  # ratio of temperatures between two fits of the chains' extent
_LOOKS, _WAYPOINTS = 5, 8  # last moves, and parts of the way, at which it is seen what is visible from the center
_LAST_WINDOW = 3  # times as long as the others
_MIN_CONVERTED = 20.0  # effective samples near the cutoff, below which their density is smoothed
# Verdict: spread of ln Z over groups, growth of the reference in the last window, and the acceptance of moves.
_MAX_SPREAD, _MAX_GROWTH, _MIN_ACCEPTANCE, _MAX_ORIGIN_Z = 1.0, 2.0, 0.3, 5.0


@dataclass(frozen=True)
class Options:
    """How many chains, and how long.

    Attributes:
        num_chains: K, in `num_groups` independent populations whose spread is the error.
        num_leapfrog: steps of a trajectory.
        num_windows: of the warm-up, where there is one, each of `window` moves of all chains at the target; after each
            the Gaussian reference is fitted anew.
        num_final: moves at the target at the end, all of which convert energy to volume.
        refine: temperatures of the production run for each of the pilot's.
    """

    num_chains: int = 64
    num_groups: int = 8
    num_leapfrog: int = 10
    num_windows: int = 6
    window: int = 20
    num_final: int = 20
    refine: int = 3

    def __post_init__(self) -> None:
        for name in ("num_leapfrog", "num_windows", "window", "num_final", "refine"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.num_groups < 2 or self.num_chains % self.num_groups or self.num_chains < 2 * self.num_groups:
            raise ValueError(
                "`num_chains` must be a multiple of `num_groups`, twice as large or more, and `num_groups` at least 2, "
                f"got {self.num_chains} and {self.num_groups}."
            )


def estimate(task: Task, options: Options) -> Outcome:
    """log V = log Z(beta) + log E_beta[exp(beta (L - L0)) 1{L <= cutoff}], with Z(beta) from annealed chains.

    Z(beta) is the integral of exp(-beta (L - L0)) over the measure, and beta is such that the mean loss is the cutoff.
    Under a Gaussian measure chains start in the measure itself; otherwise a warm-up fits a Gaussian reference. A pilot
    chooses temperatures and steps; then, with all of them fixed, a population is reweighted, resampled and moved by
    Hamiltonian Monte Carlo from one temperature to the next. Sources: Neal 2001 (annealed importance sampling); Del
    Moral, Doucet and Jasra 2006 (with resampling), whose estimate of Z is unbiased.

    What is measured is {L <= cutoff} wherever chains reach it, not only what is visible from the center: at least what
    the rays measure. Bias: on the log scale too low by about half the variance of ln Z, which the groups show; and
    without limit where chains do not mix, for example between basins, which no diagnostic excludes. In Lebesgue measure
    a basin with directions without end has no answer: the chains drift, and the verdict says so. Cost: K chains x
    (windows + 2 x temperatures) x leapfrog steps x 3 evaluations.
    """
    directions = task.directions(min(task.num_directions, _MOST_RAYS))
    solver = task.solver(directions)
    radii = solver.solve_all().at()
    annealing = _Annealing(task, options, solver.problem.center, float(solver.center_losses[0]))
    if annealing.is_from_measure:
        annealing.start_from_measure()
    else:
        annealing.fit_to_rays(directions, radii.radius.where(~torch.isnan(radii.radius), radii.lower))
        annealing.warm_up()
    annealing.choose_temperatures()
    found = annealing.produce()
    volume = annealing.volume(found)
    spent = int(radii.num_evaluations.sum()) + annealing.energy.num_evaluations
    return Outcome(volume, radii, solver, directions, radii, spent, annealing.details(found), beyond_star=True)


@dataclass(frozen=True)
class _Production:
    """What the last run measured.

    Attributes:
        log_z: ln Z of each group. [G]
        log_conversion: ln E[exp(beta (L - L0)) 1{inside}] over all groups.
        conversion_error: of it. nats
        num_converted: effective number of samples behind it.
        is_smoothed: whether it comes from a smooth density at the cutoff.
        acceptance: smallest over the temperatures.
        origin_z: how far these chains are from those of the warm-up, in standard errors.
        visible: share of the measure whose straight way to the center is inside: what rays could see of it.
    """

    log_z: Tensor
    log_conversion: float
    conversion_error: float
    num_converted: float
    is_smoothed: bool
    acceptance: float
    origin_z: float
    visible: float


@dataclass(frozen=True)
class _Temperature:
    """A share t of the way from the reference to the basin, and how chains move there."""

    t: float
    step: float
    shape: Tensor


class _Annealing:
    """The stages of one estimate, in order."""

    def __init__(self, task: Task, options: Options, center: Tensor, center_loss: float) -> None:
        self.task, self.options = task, options
        self.energy = BatchedLoss(task.landscape, task.space, center, task.scale)
        self.center_loss, self.rise = center_loss, task.cutoff - center_loss
        self._generator = torch.Generator().manual_seed(task.directions(1, _CHAIN_STAGE).seed % 2**63)
        self.growth = math.nan
        self.is_from_measure = task.measure.name == "gaussian"

    def fit_to_rays(self, directions: Any, radius: Tensor) -> None:
        """A first reference from the radii, and chains inside the basin."""
        task = self.task
        groups, count = feature_groups(task.space, "diagonal" if len(radius) >= 2 * task.space.dim else "grouped")
        chunks = in_chunks(directions, range(len(radius)))
        features = torch.cat([group_sums(part.square(), groups, count) for _, part in chunks])
        curvature = fit_radii(features, radius)[groups]
        tilt = Tilt.of(curvature, task.measure)
        precision = tilt.precision(curvature)
        limit = task.measure.radius_max(task.space.dim) ** 2
        # Even a ball that the ellipsoid does not reach may bind the basin; the warm-up lowers what is not needed.
        base = max(tilt.base, 0.5 * task.space.dim / limit) if task.measure.name == "ball" else 0.0
        gibbs = Gibbs(tilt.tau / (2.0 * self.rise), base, self.center_loss)
        whitening = Whitening(torch.zeros_like(precision), precision.rsqrt())
        self.hamiltonian = self._hamiltonian(whitening, gibbs, 0.5 * task.space.dim**-0.25)
        rows = torch.arange(self.options.num_chains) % len(radius)
        vectors = directions.materialize(rows.tolist(), torch.float64)
        inside = radius[rows].clamp(max=math.sqrt(limit))
        typical = (1.0 / precision).sum().sqrt()  # points farther than the Gaussian has mass are no start
        self.chains = self.hamiltonian.start(0.9 * torch.minimum(inside, typical)[:, None] * vectors)

    def warm_up(self) -> None:
        """Windows at the target; after each, the reference, beta and the step fit what the chains did."""
        options = self.options
        variance = torch.full((self.task.space.dim,), math.nan, dtype=torch.float64)
        for window in range(options.num_windows):
            is_last = window == options.num_windows - 1
            samples = []
            for move in range(options.window * (_LAST_WINDOW if is_last else 1)):
                self.chains = self.hamiltonian.move(self.chains, 1.0, adapts=True)
                if move >= options.window // 2:
                    samples.append(self.chains)
            points = torch.stack([chains.x for chains in samples])
            rise = torch.stack([chains.loss for chains in samples]).mean() - self.center_loss
            # The last window is a sample of what production will sample.
            gibbs = (
                self.hamiltonian.gibbs if is_last else self._tuned(float(rise), float(points.square().sum(2).mean()))
            )
            self._yardstick, variance = variance, points.flatten(0, 1).var(dim=0)
            self.growth = 0.5 * float((variance / self._yardstick).log().sum())
            self.hamiltonian = self._hamiltonian(_fitted(points), gibbs, self.hamiltonian.step)
        self._warm = self._statistics(self.chains)

    def _statistics(self, chains: Chains) -> tuple[Tensor, Tensor]:
        """Loss and size of every chain, in units of the window before the last, which was fitted to other points."""
        return chains.loss, (chains.x.square() / self._yardstick).sum(dim=1)

    def start_from_measure(self) -> None:
        """Under a Gaussian the measure itself is the reference: its chains have the width of every free direction."""
        sigma, dim = float(self.task.measure.sigma or math.nan), self.task.space.dim
        whitening = Whitening(torch.zeros(dim, dtype=torch.float64), torch.full((dim,), sigma, dtype=torch.float64))
        largest = Gibbs(_LARGEST_BETA * dim / self.rise, sigma**-2.0, self.center_loss)
        self.hamiltonian = self._hamiltonian(whitening, largest, 0.5 * dim**-0.25)

    def choose_temperatures(self) -> None:
        """A first annealing whose temperatures keep the conditional effective sample size; it tunes the steps too.

        From the measure it ends where the mean loss comes to the cutoff, which gives beta.
        """
        hamiltonian, t = self.hamiltonian, 0.0
        chains = hamiltonian.reference(self.options.num_chains)
        log_weights = torch.zeros(len(chains.loss), dtype=torch.float64)
        self.schedule: list[_Temperature] = []
        shaped = 0.0
        while t < 1.0 and len(self.schedule) < _MOST_TEMPERATURES and not self._is_at_cutoff(chains, log_weights):
            goal = self._next_temperature(chains, log_weights, t)
            log_weights = log_weights + self._increment(chains, t, goal)
            t = goal
            if _ess(log_weights) < 0.5 * len(log_weights):
                chains = chains.copy(self._resampled(log_weights))
                log_weights = torch.zeros_like(log_weights)
            if self.is_from_measure and t > _RESHAPE * shaped:
                shape = self.hamiltonian.whitening.to_y(chains.x).std(dim=0).clamp(1e-6, 1.0)
                # In proportion to what is known: a step that suited the old shape suits the new one better.
                hamiltonian.shape, shaped = shape, t
            chains = hamiltonian.move(chains, t, adapts=True)
            self.schedule.append(_Temperature(t, hamiltonian.step, hamiltonian.shape))
        self.reached = 1.0 if self._is_at_cutoff(chains, log_weights) else t
        if self.is_from_measure:
            gibbs = hamiltonian.gibbs
            hamiltonian.gibbs = Gibbs(t * gibbs.beta, gibbs.precision, gibbs.center_loss)
            self.schedule = [_Temperature(part.t / t, part.step, part.shape) for part in self.schedule]

    def _is_at_cutoff(self, chains: Chains, log_weights: Tensor) -> bool:
        if not self.is_from_measure:
            return False
        share = torch.softmax(log_weights, dim=0)
        return float((share * (chains.loss - self.center_loss)).sum()) <= self.rise

    def _next_temperature(self, chains: Chains, log_weights: Tensor, t: float) -> float:
        if self._conditional_ess(chains, log_weights, t, 1.0) >= _CONDITIONAL_ESS:
            return 1.0
        low, high = t, 1.0
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            enough = self._conditional_ess(chains, log_weights, t, middle) >= _CONDITIONAL_ESS
            low, high = (middle, high) if enough else (low, middle)
        return max(low, t * (1.0 + 1e-6), 1e-15)

    def produce(self) -> _Production:
        """The run that counts: everything is fixed, so that the estimate of Z is unbiased."""
        options, hamiltonian = self.options, self.hamiltonian
        size = options.num_chains // options.num_groups
        chains = hamiltonian.reference(options.num_chains)
        log_weights = torch.zeros((options.num_groups, size), dtype=torch.float64)
        log_z = torch.zeros(options.num_groups, dtype=torch.float64)
        acceptance, t = 1.0, 0.0
        for temperature in self._refined_schedule():
            increment = self._increment(chains, t, temperature.t)
            log_weights = log_weights + increment.reshape(options.num_groups, size)
            t, hamiltonian.step, hamiltonian.shape = temperature.t, temperature.step, temperature.shape
            index = torch.arange(options.num_chains).reshape(options.num_groups, size).clone()
            for group in range(options.num_groups):
                if _ess(log_weights[group]) < 0.5 * size:
                    log_z[group] += log_mean_exp(log_weights[group])
                    index[group] = group * size + self._resampled(log_weights[group])
                    log_weights[group] = 0.0
            chains = hamiltonian.move(chains.copy(index.reshape(-1)), t)
            acceptance = min(acceptance, hamiltonian.acceptance)
        log_z += torch.logsumexp(log_weights, dim=1) - math.log(size)
        # Weight of each chain in the average over all groups.
        log_chain = (log_z[:, None] + torch.log_softmax(log_weights, dim=1)).reshape(-1)
        log_chain = log_chain - torch.logsumexp(log_chain, dim=0)
        losses, norms, seen = [], [], []
        for move in range(options.num_final):
            chains = hamiltonian.move(chains, 1.0)
            if move >= options.num_final - _LOOKS:
                seen.append(self._is_visible(chains))
            losses.append(chains.loss)
            norms.append(chains.x.square().sum(dim=1))
        loss, norm = torch.stack(losses), torch.stack(norms)
        converted = self._convert(loss, norm, log_chain)
        if self.is_from_measure:
            origin = _distance(losses[0], losses[-1], log_chain)
        else:
            pairs = zip(self._warm, self._statistics(chains), strict=True)
            origin = max(_distance(first, second, log_chain) for first, second in pairs)
        log_seen = self._log_terms(loss[-len(seen) :], norm[-len(seen) :], log_chain)
        visible = float((torch.softmax(log_seen.reshape(-1), dim=0) * torch.stack(seen).reshape(-1)).sum())
        return _Production(log_z + self._log_reference(), *converted, acceptance, origin, visible)

    def volume(self, found: _Production) -> Volume:
        """The volume, with a verdict from the chains' own diagnostics."""
        task, log_z = self.task, found.log_z
        if task.measure.name == "gaussian":
            log_z = log_z - 0.5 * task.space.dim * math.log(2.0 * math.pi * float(task.measure.sigma or math.nan) ** 2)
        return volume_of_groups(task, log_z, *self._judge(found), found.log_conversion, found.conversion_error)

    def details(self, found: _Production) -> dict[str, Any]:
        """What the chains say about themselves."""
        options = self.options
        return {
            "chains": f"{options.num_chains} in {options.num_groups} groups",
            "reference": "the measure" if self.is_from_measure else "fitted",
            "temperatures": len(self.schedule) * options.refine,
            "beta": self.hamiltonian.gibbs.beta,
            "spread_of_log_z": float(found.log_z.std()),
            "smallest_acceptance": found.acceptance,
            "samples_at_the_cutoff": found.num_converted,
            "smooth_conversion": found.is_smoothed,
            **({} if self.is_from_measure else {"growth_in_last_window": self.growth}),
            "origins_differ_by_z": found.origin_z,
            "visible_from_center": found.visible,
        }

    def _judge(self, found: _Production) -> tuple[Verdict, str]:
        spread = float(found.log_z.std())
        if not bool(torch.isfinite(found.log_z).all()) or not math.isfinite(found.log_conversion):
            return Verdict.INVALID, "chains ended at a loss that is not finite, or none near the cutoff."
        if self.reached < 1.0:
            return Verdict.LOWER_BOUND, f"the annealing ended at {self.reached:.3f} of the way to the basin."
        noise = 2.0 * math.sqrt(self.task.space.dim / self.options.num_chains)
        if self.growth > _MAX_GROWTH + noise:
            return Verdict.LOWER_BOUND, (
                f"the chains were still spreading, by {self.growth:.1f} nats in the last window; raise `num_windows`, "
                "or choose a finite measure if the basin has directions without end."
            )
        if spread > _MAX_SPREAD:
            return Verdict.LOWER_BOUND, (
                f"independent groups of chains spread by {spread:.1f} nats; raise `refine` or `num_chains`."
            )
        if found.acceptance < _MIN_ACCEPTANCE:
            return Verdict.LOWER_BOUND, f"the chains accepted only {found.acceptance:.0%} of their moves somewhere."
        if found.origin_z > _MAX_ORIGIN_Z:
            return Verdict.LOWER_BOUND, (
                f"chains from the reference and chains from the center differ by {found.origin_z:.1f} standard errors."
            )
        return Verdict.TRUSTWORTHY, (
            f"{len(found.log_z)} groups of chains agree within {spread:.2f} nats, acceptance at least "
            f"{found.acceptance:.0%}, {found.num_converted:.0f} samples at the cutoff."
        )

    def _hamiltonian(self, whitening: Whitening, gibbs: Gibbs, step: float) -> Hamiltonian:
        return Hamiltonian(self.energy, whitening, gibbs, self.options.num_leapfrog, step, self._generator)

    def _tuned(self, mean_rise: float, mean_norm: float) -> Gibbs:
        """beta, and in a ball the precision, moved so that the mean loss comes to the cutoff and |x|^2 to R^2."""
        gibbs, measure = self.hamiltonian.gibbs, self.task.measure
        beta = gibbs.beta * min(max(mean_rise / self.rise, 0.5), 2.0)
        precision = gibbs.precision
        if measure.name == "ball" and precision > 0.0:
            precision *= min(max(mean_norm / float(measure.radius or math.nan) ** 2, 0.25), 2.0)
        return Gibbs(beta, precision, gibbs.center_loss)

    def _increment(self, chains: Chains, t: float, goal: float) -> Tensor:
        """Log of the ratio of densities between two temperatures. [K]"""
        before, after = self.hamiltonian.potential(chains, t), self.hamiltonian.potential(chains, goal)
        return torch.where(torch.isfinite(before), before - after, -math.inf)

    def _conditional_ess(self, chains: Chains, log_weights: Tensor, t: float, goal: float) -> float:
        increment = self._increment(chains, t, goal)
        share = torch.log_softmax(log_weights, dim=0)
        first, second = torch.logsumexp(share + increment, 0), torch.logsumexp(share + 2.0 * increment, 0)
        return float((2.0 * first - second).exp())

    def _resampled(self, log_weights: Tensor) -> Tensor:
        """Systematic resampling: positions in proportion to the weights. [K]"""
        count = len(log_weights)
        edges = torch.softmax(log_weights, dim=0).cumsum(0)
        comb = (torch.arange(count) + torch.rand((), generator=self._generator, dtype=torch.float64)) / count
        return torch.searchsorted(edges, comb).clamp(max=count - 1)

    def _refined_schedule(self) -> list[_Temperature]:
        before, fine, parts = 0.0, [], self.options.refine
        for temperature in self.schedule:
            steps = [before + (temperature.t - before) * (i + 1) / parts for i in range(parts)]
            fine += [_Temperature(t, temperature.step, temperature.shape) for t in steps]
            before = temperature.t
        return fine

    def _log_reference(self) -> float:
        """ln of the integral of exp(-|y|^2/2) over x."""
        return 0.5 * self.task.space.dim * math.log(2.0 * math.pi) + self.hamiltonian.whitening.log_det

    def _is_visible(self, chains: Chains) -> Tensor:
        """Whether the straight way from the center to each chain stays inside. [K]"""
        inside = torch.ones(len(chains.loss), dtype=torch.bool)
        for part in range(1, _WAYPOINTS):
            inside &= self.energy.losses(part / _WAYPOINTS * chains.x) <= self.task.cutoff
        return inside.double()

    def _log_terms(self, loss: Tensor, norm: Tensor, log_chain: Tensor) -> Tensor:
        """Log of exp(beta (L - L0) + ...) 1{inside}, with the weights of the chains, at samples [M, K]."""
        gibbs, measure = self.hamiltonian.gibbs, self.task.measure
        log_values = gibbs.beta * (loss - gibbs.center_loss)
        inside = loss <= self.task.cutoff
        if measure.name == "ball":
            log_values = log_values + 0.5 * gibbs.precision * norm
            inside &= norm <= measure.radius_max(self.task.space.dim) ** 2
        return torch.where(inside, log_values, -math.inf) + log_chain - math.log(len(loss))

    def _convert(self, loss: Tensor, norm: Tensor, log_chain: Tensor) -> tuple[float, float, float, bool]:
        """ln E[exp(beta (L - L0) + ...) 1{inside}] over samples [M, K], its error, effective samples, if smoothed."""
        gibbs = self.hamiltonian.gibbs
        log_terms = self._log_terms(loss, norm, log_chain)
        effective = _ess(log_terms.reshape(-1))
        if effective >= _MIN_CONVERTED or gibbs.beta == 0.0 or self.task.measure.name == "ball":
            # Moves of one chain are correlated: the error comes from the chains' means.
            per_chain = torch.logsumexp(log_terms, dim=0)
            total = float(torch.logsumexp(per_chain, dim=0))
            return total, weight_statistics(per_chain)["standard_error"], effective, False
        weights = log_chain.exp() / len(loss)
        mean = float((weights * loss).sum())
        deviation = math.sqrt(float((weights * (loss - mean) ** 2).sum()))
        z = (self.task.cutoff - mean) / deviation
        log_density = -0.5 * z * z - 0.5 * math.log(2.0 * math.pi) - math.log(deviation)
        # The integral of p(E) exp(beta E) up to the cutoff, with p a normal density.
        slope = gibbs.beta - z / deviation
        if slope <= 0.0:
            return -math.inf, math.inf, effective, True
        error = (1.0 + abs(z)) / math.sqrt(loss.shape[1])
        return log_density + gibbs.beta * self.rise - math.log(slope), error, effective, True


def _fitted(points: Tensor) -> Whitening:
    """The Gaussian with the moments of points [moves, K, P]: with all correlations where there are points enough."""
    flat = points.flatten(0, 1)
    mean, variance = flat.mean(dim=0), flat.var(dim=0)
    count, dim = flat.shape
    floor = 1e-12 * variance.mean()
    if dim > _MOST_DENSE or count < _POINTS_EACH * dim:
        return Whitening(mean, (variance + floor).sqrt())
    shrink = dim / (count + dim)
    covariance = (1.0 - shrink) * torch.cov(flat.T) + torch.diag(shrink * variance + floor)
    factor: Tensor = torch.linalg.cholesky(covariance)
    return Whitening(mean, factor)


def _ess(log_weights: Tensor) -> float:
    if not bool(torch.isfinite(log_weights.max())):
        return 0.0
    return 1.0 / float(torch.softmax(log_weights, dim=0).square().sum())


def _distance(first: Tensor, second: Tensor, log_weights: Tensor) -> float:
    """Difference of the means of a plain and a weighted sample, in standard errors."""
    share = log_weights.exp()
    mean = float((share * second).sum())
    variance = float((share.square() * (second - mean) ** 2).sum()) + float(first.var()) / len(first)
    return abs(float(first.mean()) - mean) / math.sqrt(variance) if variance > 0 else 0.0
