"""A Gaussian mass as the share of independent draws that lie in the basin."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends.motion import PointsInPlanes
from ..inputs.arguments import real_number, whole_number
from ..progress import progress_bar
from ..trust.diagnostics import Verdict
from .checkpoint import Checkpoint
from .groups import cutoff_slope, volume_of_groups
from .noise import Noise, empty
from .stages import Stage
from .task import Outcome, Task

_MOST_RAYS = 100  # they give the center and what probes need
_NUMBERS_AT_ONCE, _DRAWS_AT_ONCE = 2**23, 512  # of the draws between two looks at how many are inside
_LEAST_ERROR = 1e-4  # nats, of a hundred million points inside
_FEWEST_INSIDE = 10  # points: weights that are all the same have no tail, and the error of ten is 0.3 nats


@dataclass(frozen=True)
class Options:
    """When there are enough draws.

    Attributes:
        target_error: the standard error in nats at which drawing ends: 0.1 takes a hundred draws inside.
        most_draws: draws after which it ends in any case. With N of them a mass of 100 / N still has an error of 0.1,
            and one of 10 / N an error of 0.3 nats: by default e^-7 and e^-9.
    """

    target_error: float = 0.1
    most_draws: int = 100_000

    def __post_init__(self) -> None:
        if not _LEAST_ERROR <= real_number("target_error", self.target_error) < math.inf:
            raise ValueError(f"`target_error` must be at least {_LEAST_ERROR:g} nats, got {self.target_error}.")
        whole_number("most_draws", self.most_draws, least=1)

    @property
    def num_inside(self) -> int:
        """How many draws inside are enough."""
        return max(_FEWEST_INSIDE, math.ceil(1.0 / self.target_error**2))


def estimate(task: Task, options: Options) -> Outcome:
    """The mass P(L <= cutoff) of a point of N(center, sigma^2 S^2), as the share of points drawn from it.

    Drawing ends with the h-th point inside, the N-th of all: (h - 1) / (N - 1) is then an unbiased estimate of the mass
    (Haldane 1945). Nothing is assumed of the loss: a part of the basin is found as often as its mass says, wherever it
    is. So no probe looks for parts that were missed, and the number tells whether chains are right where both can be
    had.

    Bias: none. Cost: h / mass evaluations, of which few read all the data, as most points are far above the cutoff.
    """
    task.check_gaussian("direct")
    rays = task.uniform_rays(_MOST_RAYS)
    found = _draw(task, options, rays.center)
    inside = len(found.losses)
    is_enough = inside >= options.num_inside
    share = (inside - 1) / (found.num_draws - 1) if is_enough and found.num_draws > 1 else inside / found.num_draws
    number = math.log(share) if share > 0.0 else -math.inf
    # That of a count. One more point outside (Laplace's rule) leaves an error where there is none outside.
    outside = (found.num_draws - inside + 1) / (found.num_draws + 2)
    error = math.sqrt(outside / inside) if inside else math.nan
    # Each point inside has the same weight, and the others have none.
    weights = torch.zeros(max(inside, 1), dtype=torch.float64)
    slope = cutoff_slope(found.losses, rays.center_loss, task.cutoff) if inside else math.nan
    volume = volume_of_groups(task, weights, *_verdict(found, options), slope=slope, mean=lambda _: (number, error))
    details = {"draws": found.num_draws, "draws_inside": inside}
    outcome = Outcome.of_rays(volume, rays, details, beyond_star=True, sees_all=True)
    return outcome if inside else dataclasses.replace(outcome, at_most=found.most)


@dataclass(frozen=True)
class _Drawn:
    """How many points were drawn, and the losses of those inside. [h] float64"""

    num_draws: int
    losses: Tensor

    @property
    def most(self) -> float:
        """The log of 3 / N: of a larger mass, no point inside would have had a chance below 5 %."""
        return math.log(3.0 / self.num_draws)


def _draw(task: Task, options: Options, center: Tensor) -> _Drawn:
    energy = task.energy(center, reduces=True)
    generator = task.generator_of(Stage.DIRECT)
    noise = Noise(generator)
    checkpoint = Checkpoint(task, "direct", generator)
    there = checkpoint.restored()
    count, losses = (0, empty(0, 1)[:, 0]) if there is None else (there["num_draws"], there["losses"])
    step = max(1, min(_DRAWS_AT_ONCE, _NUMBERS_AT_ONCE // energy.dim))
    points, limits = empty(step, energy.dim), torch.full((step,), task.cutoff, dtype=torch.float64)
    with progress_bar(task.progress, options.num_inside, "drawing", "point inside") as bar:
        bar.update(len(losses))
        while len(losses) < options.num_inside and count < options.most_draws:
            now = min(step, options.most_draws - count)
            noise.fill(points[:now], first=count, deviation=math.sqrt(task.measure.variance))
            at = PointsInPlanes.on_rays(points, torch.arange(now), torch.ones(now, dtype=torch.float64))
            tried = energy.losses_within(at, limits[:now])
            inside = (tried <= task.cutoff).nonzero()[:, 0][: options.num_inside - len(losses)]
            losses = torch.cat([losses, tried[inside]])
            # Points after the last one that is needed do not count, so that no result depends on the step.
            is_enough = len(losses) >= options.num_inside
            count += int(inside[-1]) + 1 if is_enough else now
            bar.update(len(inside))
            checkpoint.keep({"num_draws": count, "losses": losses}, at_once=is_enough or count >= options.most_draws)
    return _Drawn(count, losses)


def _verdict(found: _Drawn, options: Options) -> tuple[Verdict, str]:
    inside, of = len(found.losses), f"of {found.num_draws:,} independent draws"
    advice = "raise `most_draws`, or take chains with method='annealed'"
    if inside == 0:
        return Verdict.INVALID, (
            f"none {of} is inside, so that the log mass is below {found.most:.1f} with 95 % confidence; {advice}."
        )
    if inside < _FEWEST_INSIDE:
        return Verdict.LOWER_BOUND, f"only {inside} {of} {'is' if inside == 1 else 'are'} inside; {advice}."
    short = f", fewer than the {options.num_inside:,} that `target_error` asks for"
    return Verdict.TRUSTWORTHY, f"{inside} {of} are inside{short if inside < options.num_inside else ''}."
