"""A random walk through the basin, in growing balls: the method to check others by where parameters are few."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..progress import Bar, progress_bar
from ..trust.diagnostics import Verdict
from ..trust.volume import log_unit_ball
from .checkpoint import Checkpoint
from .groups import cutoff_slope, mean_of_inverses, number_of_groups, volume_of_groups
from .mixing import MAX_R_HAT, drift, is_drifting, rank_normalized_r_hat, unmixed
from .stages import Stage
from .task import Outcome, Task

MOST_PARAMETERS = 60
_INNER = 0.9  # radius of the first ball, in which points are drawn directly, as a share of the shortest ray
_GROWTH = 2.0  # largest ratio of volumes of a star body in two successive balls
_EMPTY_SHELLS = 3  # in a row, and the basin is taken to end
_MOST_DOUBLINGS = 12  # of the radius: a basin that long is taken to be unbounded
_MOST_SHRINKS = 200  # tries of one draw; a walker that finds no point inside stays where it is
_MAX_SPREAD = 0.7  # nats, over groups


@dataclass(frozen=True)
class Options:
    """How many walkers there are, and how far they walk.

    Attributes:
        num_walkers: K, in `num_groups` independent groups whose spread is the error.
        num_groups: G, the number of these groups; 0 for 16, or for 8 where there are too few walkers.
        num_steps: steps of every walker in every ball; the first half is not counted. Default 20 + 2 P.
    """

    num_walkers: int = 256
    num_groups: int = 0
    num_steps: int | None = None

    def __post_init__(self) -> None:
        if self.num_groups == 0:
            object.__setattr__(self, "num_groups", number_of_groups(self.num_walkers, least=8))
        if self.num_groups < 2 or self.num_walkers % self.num_groups:
            raise ValueError(
                "`num_walkers` must be a multiple of `num_groups`, and `num_groups` at least 2, got "
                f"{self.num_walkers} and {self.num_groups}."
            )


def estimate(task: Task, options: Options) -> Outcome:
    """The volume as a product of ratios of the volumes of the basin in growing balls around the center.

    In each ball walkers sample the basin uniformly: along a random line the next point is uniform in the basin within
    the ball's chord, found by shrinking (Neal 2003, section 4), which is exact whatever the shape. The share of points
    in the ball before gives the ratio (Dyer, Frieze and Kannan 1991; hit-and-run, Smith 1984). Lines follow the
    covariance of the ball before. A Gaussian mass weights the points of each shell by the density.

    The walkers measure {loss <= cutoff} in the balls wherever they get, not only what is visible from the center.
    Bias: small while walkers mix; basins that only meet through a bottleneck are missed. Cost: walkers x balls (about
    P log2 of the ratio of the longest to the shortest extent) x steps x about 5 evaluations, so at most 60 parameters.
    """
    dim = task.space.dim
    if dim > MOST_PARAMETERS:
        raise ValueError(
            f"method='hit-and-run' is for at most {MOST_PARAMETERS} parameters, got {dim}; use method='annealed'."
        )
    rays = task.uniform_rays()
    lower = rays.radii.lower
    walk = _Walk(task, options, rays.center, _INNER * float(lower[lower > 0].min()))
    with progress_bar(task.progress, walk.forecast(float(lower.max())), "walk") as bar:
        log_volumes = walk.run(bar)
    slope = walk.cutoff_slope(rays.center_loss)
    # The shares of points that lie in the ball before are unbiased, and so is their product: of the inverse volume.
    verdict = walk.verdict(log_volumes)
    volume = volume_of_groups(task, log_volumes, *verdict, slope=slope, mean=mean_of_inverses)
    details = {
        "walkers": f"{options.num_walkers} in {options.num_groups} groups",
        "balls": walk.num_phases,
        "r_hat": walk.r_hat,
        "spread_of_log_volume": float(log_volumes.std()),
    }
    return Outcome.of_rays(volume, rays, details, beyond_star=True)


class _Walk:
    """Walkers in growing balls.

    Attributes:
        num_phases: balls after the first.
        has_ended: whether the last balls added nothing, or the measure ends there.
        r_hat: largest R-hat of the walkers' statistics in the last ball.
        growth: growth of the log-volume from earlier to later samples, over all balls. [G] nats
    """

    def __init__(self, task: Task, options: Options, center: Tensor, inner: float) -> None:
        self.task, self.options = task, options
        self.energy = task.energy(center)
        self.num_phases, self.has_ended, self.r_hat = 0, False, 1.0
        self.growth = torch.zeros(options.num_groups, dtype=torch.float64)
        self._generator = task.generator_of(Stage.WALK)
        self._x = torch.zeros((options.num_walkers, task.space.dim), dtype=torch.float64)
        self._radius = min(inner, task.measure.radius_max(task.space.dim))
        self._shape = torch.eye(task.space.dim, dtype=torch.float64)
        self._steps = options.num_steps or 20 + 2 * task.space.dim
        self._checkpoint = Checkpoint(task, "hit-and-run", self._generator)

    def forecast(self, longest: float) -> int:
        """About how many steps there will be, if the basin ends at its longest ray; it may be longer."""
        reach = min(longest, self.task.measure.radius_max(self.task.space.dim))
        balls = self.task.space.dim * math.log(max(reach / self._radius, 1.0), _GROWTH)
        return self._steps * (math.ceil(balls) + _EMPTY_SHELLS)

    def run(self, bar: Bar) -> Tensor:
        """The log of the measure, from each group; the bar is told of every step. [G] float64"""
        dim, measure = self.task.space.dim, self.task.measure
        reach = measure.radius_max(dim)
        kept = self._checkpoint.restored()
        if kept is None:
            x, log_volume = self._first_ball()
            log_parts, empty = [self._shell(x[None], 0.0, log_volume)], 0
        else:
            x, log_volume, log_parts, empty = (kept[name] for name in ("x", "log_volume", "log_parts", "empty"))
            self._radius, self._shape, self.growth = (kept[name] for name in ("radius", "shape", "growth"))
            self.num_phases, self.r_hat = kept["num_phases"], kept["r_hat"]
            bar.update(self._steps * self.num_phases)
        while self._radius < reach and self.num_phases < _MOST_DOUBLINGS * dim and empty < _EMPTY_SHELLS:
            # A star-shaped body at most doubles its volume from ball to ball, so that every ratio is well measured.
            before, self._radius = self._radius, min(self._radius * _GROWTH ** (1.0 / dim), reach)
            samples = []
            for step in range(self._steps):
                x = self._step(x)
                bar.update()
                if step >= self._steps // 2:  # the first half lets walkers spread from the ball before
                    samples.append(x)
            points = torch.stack(samples)
            self.r_hat = self._r_hat(points)
            is_beyond = torch.linalg.vector_norm(points, dim=2) > before
            is_new = self._by_group(is_beyond)
            self.growth = self.growth + self._growth(is_beyond)
            log_volume = log_volume - (1.0 - is_new.double().mean(dim=1)).log()
            log_parts.append(self._shell(points, before, log_volume))
            self._shape = _root_covariance(points)
            empty = 0 if bool(is_new.any()) else empty + 1
            self.num_phases += 1
            walkers = {"x": x, "log_volume": log_volume, "log_parts": log_parts, "empty": empty}
            ball = {"radius": self._radius, "shape": self._shape, "growth": self.growth}
            self._checkpoint.keep({**walkers, **ball, "num_phases": self.num_phases, "r_hat": self.r_hat})
        self.has_ended = self._radius >= reach or empty >= _EMPTY_SHELLS
        self._x = x
        return torch.logsumexp(torch.stack(log_parts), dim=0)

    def _r_hat(self, points: Tensor) -> float:
        """Of the distances from the center and the sizes of coordinates. [M, K, P]"""
        norm = torch.linalg.vector_norm(points, dim=2, keepdim=True)
        return float(rank_normalized_r_hat(torch.cat([norm, points.abs()], dim=2)).max())

    def _growth(self, is_beyond: Tensor) -> Tensor:
        """How much larger the later half of the samples makes this ball than the earlier half. [M, K] to [G] nats"""
        half = len(is_beyond) // 2
        shares = [self._by_group(part).double().mean(dim=1) for part in (is_beyond[:half], is_beyond[-half:])]
        return (1.0 - shares[0]).log() - (1.0 - shares[1]).log()

    def cutoff_slope(self, center_loss: float) -> float:
        """The slope d ln measure / d ln (cutoff - loss at the center), from where the walkers are at the end."""
        log_density = None
        if self.task.measure.is_gaussian:
            log_density = -0.5 * self._x.square().sum(dim=1) / self.task.measure.variance
        return cutoff_slope(self.energy.losses(self._x), center_loss, self.task.cutoff, log_density)

    def verdict(self, log_volumes: Tensor) -> tuple[Verdict, str]:
        """The verdict and its reason, from the spread of the groups and from where the walk ended."""
        spread = float(log_volumes.std())
        if not self.has_ended:
            return Verdict.CENSORED, (
                f"walkers still found room at radius {self._radius:.3g}; the volume may be infinite."
            )
        if spread > _MAX_SPREAD:
            return Verdict.LOWER_BOUND, f"groups of walkers spread by {spread:.1f} nats; raise `num_steps`."
        if self.r_hat > MAX_R_HAT:
            return Verdict.LOWER_BOUND, unmixed(self.r_hat)
        if is_drifting(self.growth):
            return Verdict.LOWER_BOUND, (
                f"the walkers were still spreading, and their later samples make the balls {drift(self.growth)[0]:.2f} "
                "nats larger than the earlier ones; raise `num_steps`."
            )
        return Verdict.TRUSTWORTHY, f"{len(log_volumes)} groups of walkers agree within {spread:.2f} nats."

    def _first_ball(self) -> tuple[Tensor, Tensor]:
        """Points [K, P] drawn in the first ball until every walker is inside, and the log-volume of each group. [G]"""
        dim, count = self.task.space.dim, self.options.num_walkers
        draws, hits = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
        x = torch.zeros((count, dim), dtype=torch.float64)
        for attempt in range(_MOST_SHRINKS):
            noise = torch.randn((count, dim), generator=self._generator, dtype=torch.float64)
            length = torch.rand((count, 1), generator=self._generator, dtype=torch.float64) ** (1.0 / dim)
            drawn = self._radius * length * noise / torch.linalg.vector_norm(noise, dim=1, keepdim=True)
            inside = self._is_inside(drawn)
            # The first point inside is uniform in the basin; later draws only count how large that part of the ball is.
            x = torch.where((inside & (hits == 0))[:, None], drawn, x)
            draws += 1.0
            hits += inside
            if attempt >= self._steps and bool((hits > 0).all()):
                break
        share = self._by_group(hits[None]).mean(dim=1) / self._by_group(draws[None]).mean(dim=1)
        return x, share.log() + log_unit_ball(dim) + dim * math.log(self._radius)

    def _shell(self, points: Tensor, before: float, log_volume: Tensor) -> Tensor:
        """The log of the measure between two balls, from points [M, K, P] uniform in the outer one. [G]"""
        norm = torch.linalg.vector_norm(points, dim=2)
        log_values = torch.zeros_like(norm)
        if self.task.measure.is_gaussian:
            variance = self.task.measure.variance
            log_values = -0.5 * norm**2 / variance - 0.5 * points.shape[2] * math.log(2.0 * math.pi * variance)
        log_values = torch.where(norm > before, log_values, -math.inf)
        grouped = self._by_group(log_values)
        return torch.logsumexp(grouped, dim=1) - math.log(grouped.shape[1]) + log_volume

    def _step(self, x: Tensor) -> Tensor:
        """Moves every walker along a random line, to a uniform point of the chord's part that is in the basin."""
        line = torch.randn(x.shape, generator=self._generator, dtype=torch.float64) @ self._shape.T
        line = line / torch.linalg.vector_norm(line, dim=1, keepdim=True)
        along = (x * line).sum(dim=1)
        # The chord's half length; rounding may take a walker slightly outside of the ball.
        half = (along.square() + self._radius**2 - x.square().sum(dim=1)).clamp(min=0.0).sqrt()
        low, high = -along - half, -along + half
        moved, waiting = x.clone(), torch.arange(len(x))
        for _ in range(_MOST_SHRINKS):
            uniform = torch.rand(len(waiting), generator=self._generator, dtype=torch.float64)
            t = low[waiting] + uniform * (high[waiting] - low[waiting])
            tried = x[waiting] + t[:, None] * line[waiting]
            inside = self._is_inside(tried)
            moved[waiting[inside]] = tried[inside]
            outside = waiting[~inside]
            t = t[~inside]
            # The interval shrinks toward the walker, at t = 0, which is inside.
            low[outside] = torch.where(t < 0, t, low[outside])
            high[outside] = torch.where(t < 0, high[outside], t)
            waiting = outside
            if len(waiting) == 0:
                break
        return moved

    def _is_inside(self, x: Tensor) -> Tensor:
        return self.energy.losses(x) <= self.task.cutoff

    def _by_group(self, values: Tensor) -> Tensor:
        """Values [M, K] of M steps, sorted by group. [G, M K / G]"""
        groups = self.options.num_groups
        return values.reshape(len(values), groups, -1).transpose(0, 1).reshape(groups, -1)


def _root_covariance(points: Tensor) -> Tensor:
    """A factor of the covariance of points [M, K, P], with a floor that keeps every line possible. [P, P]"""
    covariance = torch.atleast_2d(torch.cov(points.flatten(0, 1).T))
    floor = 0.01 * covariance.diagonal().mean()
    factor: Tensor = torch.linalg.cholesky(covariance + floor * torch.eye(len(covariance), dtype=covariance.dtype))
    return factor
