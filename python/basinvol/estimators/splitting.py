"""A Gaussian mass as a product of conditional probabilities, without gradients and without rays."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..backends.motion import PointsInPlanes
from ..inputs.arguments import whole_number
from ..progress import Bar, progress_bar
from ..trust.diagnostics import Verdict
from .checkpoint import Checkpoint
from .curves import Rung, splitting_curve
from .groups import AIM_SPREAD, cutoff_slope, number_of_groups, volume_of_groups
from .noise import Noise, empty, turn_rows
from .stages import Stage
from .task import Outcome, Task, UniformRays

_MOST_RAYS = 100  # they give the center and what probes need; the chains do the rest
_MOST_LEVELS = 2000
# From 200 levels on, the pace over the last 100 says how many more it will take. If that makes twice the most for half
# of the groups, all are given up: paces fall where more and more parameters are confined, and hardly ever rise.
_PACE_LEVELS, _FIRST_ASKED, _HOPELESS = 100, 200, 2.0
_MOST_SHRINKS = 100  # tries of one move; a chain that finds no point below the loss level stays where it is
_MAX_SPREAD = 1.0  # nats, over groups
_PILOT_GROUPS = 4


@dataclass(frozen=True)
class Options:
    """How many chains there are, and how long they run.

    Attributes:
        num_chains: K, in `num_groups` independent populations whose spread is the error.
        num_groups: G, the number of these populations; 0 for 16, or for 8 where there are too few chains.
        num_moves: moves of every chain at every loss level.
        share: share of the chains of a group that is below its next loss level.
        rounds: one more than how often `num_chains` may be doubled. A pilot of four groups says how often at first, for
            groups to spread by at most 0.7 nats. Groups that spread by more than one nat nevertheless are run again
            with more. Nothing is doubled where that could not bring groups within one nat. With 1 there is no pilot.
    """

    num_chains: int = 256
    num_groups: int = 0
    num_moves: int = 10
    share: float = 0.5
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.num_groups == 0:
            object.__setattr__(self, "num_groups", number_of_groups(self.num_chains, least=4))
        if self.num_groups < 2 or self.num_chains % self.num_groups or self.num_chains < 4 * self.num_groups:
            raise ValueError(
                "`num_chains` must be a multiple of `num_groups`, four times as large or more, and `num_groups` at "
                f"least 2, got {self.num_chains} and {self.num_groups}."
            )
        whole_number("rounds", self.rounds, least=1)
        if not 0.1 <= self.share <= 0.9 or self.num_moves < 1:
            raise ValueError(
                f"`share` must be from 0.1 to 0.9 and `num_moves` at least 1, got {self.share} and {self.num_moves}."
            )


def estimate(task: Task, options: Options) -> Outcome:
    """The mass log P(L <= cutoff) = sum of log P(L <= c_(i+1) | L <= c_i), for a point of N(center, sigma^2 S^2).

    Chains start in the Gaussian; at every loss level c_i the chains below it are copied over the others and moved by
    elliptical slice sampling below that loss level (Murray, Adams and MacKay 2010), which needs no step and no gradient
    and whose acceptance does not fall with the dimension. Sources: Kahn and Harris 1951; Au and Beck 2001 (subset
    simulation).

    The chains measure {L <= cutoff} wherever they get, as those of method="annealed" do by other means: the two confirm
    each other. Bias: of order loss levels / chains, because the chains themselves choose the loss levels, and without
    limit, to either side, where chains do not mix. Cost: chains x loss levels x moves x about five evaluations, and a
    quarter more for the pilot; a loss level is ln 2 nats.
    """
    task.check_gaussian("splitting")
    rays = task.uniform_rays(_MOST_RAYS)
    run = _settled(task, options, rays)
    details = {
        "chains": f"{run.options.num_chains} in {run.options.num_groups} groups",
        "loss_levels": run.num_levels,
        "spread_of_log_mass": run.spread,
    }
    slope = cutoff_slope(torch.cat(run.last_losses), rays.center_loss, task.cutoff) if run.last_losses else math.nan
    volume = volume_of_groups(task, run.log_masses, *_verdict(task, run), slope=slope)
    curve = None if run.is_stuck else splitting_curve(run.rungs, task.cutoff)
    return Outcome.of_rays(volume, rays, details, beyond_star=True, curve=curve)


def _settled(task: Task, options: Options, rays: UniformRays) -> _Splitting:
    """The run that is the estimate, with as many chains as its groups need to agree.

    A pilot says how many, of which only the spread is used, and not the number. A rule that looked at the run itself
    would keep those whose groups agree by luck: their number was 0.06 nats too low and their error bar a fifth too
    small. Only a run that would not be trusted is repeated, which selects no more than the verdict does.
    """

    def ended(chains: Options, name: str, generator: torch.Generator) -> _Splitting:
        checkpoint = Checkpoint(task, f"{name} with {chains.num_chains} chains", generator, (Rung,))
        run = _Splitting(task, chains, rays, generator, checkpoint)
        with progress_bar(task.progress, 0, name, "level") as bar:
            run.run(bar)
        return run

    doublings, most = 0, options.rounds - 1
    if most:
        size, num_groups = options.num_chains // options.num_groups, min(options.num_groups, _PILOT_GROUPS)
        few = replace(options, num_chains=size * num_groups, num_groups=num_groups)
        pilot = ended(few, "splitting pilot", task.generator_of(Stage.SPLITTING_PILOT))
        if pilot.is_stuck:
            return pilot  # more groups would not help, nor more chains in each
        doublings = _doublings(pilot.spread, AIM_SPREAD, most)
    generator = task.generator_of(Stage.SPLITTING)
    while True:
        run = ended(replace(options, num_chains=options.num_chains * 2**doublings), "splitting", generator)
        more = 0 if run.is_stuck else _doublings(run.spread, _MAX_SPREAD, most - doublings)
        if not more:
            return run
        doublings += more


def _doublings(spread: float, aim: float, most: int) -> int:
    """How often the chains are doubled so that groups which spread by so many nats agree within `aim`."""
    # The spread falls as the root of the number of chains, or faster where it was large: at best it halves.
    if spread <= aim or spread > _MAX_SPREAD * 2**most:
        return 0
    return min(math.ceil(2.0 * math.log2(spread / aim)), most)


class _Splitting:
    """Groups of chains on their way down, each by loss levels of its own.

    A group that chose its levels together with others would share their error, and the spread of groups would not show
    it: with common levels error bars were 1.3 times too small.

    Attributes:
        log_masses: the log of the mass from each group. [G] float64
        num_levels: the most loss levels that a group took.
        levels: the loss level that each group has reached. [G] float64
        last_losses: losses of the chains that are in the basin at the end.
        rungs: the chains of each group at each of its loss levels.
    """

    def __init__(
        self, task: Task, options: Options, rays: UniformRays, generator: torch.Generator, checkpoint: Checkpoint
    ) -> None:
        self.task, self.options = task, options
        # Chains move in the coordinates that the loss depends on, as the measure is a Gaussian.
        self.energy = task.energy(rays.center, reduces=True)
        self._center_loss = rays.center_loss
        self.log_masses = torch.zeros(options.num_groups, dtype=torch.float64)
        self.num_levels, self.last_losses = 0, list[Tensor]()
        self.levels = torch.full((options.num_groups,), math.inf, dtype=torch.float64)
        self.rungs: list[list[Rung]] = [[] for _ in range(options.num_groups)]
        self._generator, self._checkpoint = generator, checkpoint
        self._partners = empty(options.num_chains, self.energy.dim)  # the other radius of the ellipse of every chain

    @property
    def spread(self) -> float:
        """The standard deviation of the log of the mass over groups, in nats."""
        return float(self.log_masses.std())

    @property
    def is_stuck(self) -> bool:
        """Whether a group did not come down to the cutoff."""
        return bool((self.levels > self.task.cutoff).any())

    @property
    def is_hopeless(self) -> bool:
        """Whether half of the groups or more are so slow that they will not come down to the cutoff."""
        is_there = self.levels <= self.task.cutoff
        to_go = [0.0 if there else self._levels_to_go(rungs) for there, rungs in zip(is_there, self.rungs, strict=True)]
        return self.num_levels + statistics.median(to_go) > _HOPELESS * _MOST_LEVELS

    def _levels_to_go(self, rungs: list[Rung]) -> float:
        """Levels that a group would still take to the cutoff, at its last pace in the log of the excess loss."""
        if len(rungs) < _FIRST_ASKED:
            return 0.0
        levels = rungs[-1 - _PACE_LEVELS].level, rungs[-1].level, self.task.cutoff
        before, now, end = (math.log(level - self._center_loss) for level in levels)
        return _PACE_LEVELS * (now - end) / (before - now) if before > now else math.inf

    def run(self, bar: Bar) -> None:
        """Takes every group down to the cutoff, or as far as it comes; the bar is told of every loss level."""
        options, cutoff = self.options, self.task.cutoff
        there = self._checkpoint.restored()
        if there is None:
            x = self._draw(empty(options.num_chains, self.energy.dim))
            loss = _finite(self.energy.losses(x))
            running = torch.arange(options.num_groups)
        else:
            x, loss, running = (there[name] for name in ("x", "loss", "running"))
            self.log_masses, self.num_levels, self.levels = (
                there[name] for name in ("log_masses", "num_levels", "levels")
            )
            self.rungs, self.last_losses = there["rungs"], there["last_losses"]
            bar.update(self.num_levels)
        limits = torch.empty_like(loss)
        while len(running) and self.num_levels < _MOST_LEVELS and not self.is_hopeless:
            grouped = loss.reshape(options.num_groups, -1)[running]
            for group, losses in zip(running.tolist(), grouped, strict=True):
                self.rungs[group].append(Rung(float(self.levels[group]), float(self.log_masses[group]), losses))
            kept = min(math.ceil(options.share * grouped.shape[1]), grouped.shape[1] - 1)
            # The loss of the best chain that is given up: the share strictly below it is unbiased, and the share at or
            # below that of the worst survivor is too large, by one chain in each group at every level.
            level = grouped.sort(dim=1).values[:, kept]
            is_last = level <= cutoff
            level = torch.where(is_last, cutoff, level)
            below = torch.where(is_last[:, None], grouped <= cutoff, grouped < level[:, None])
            self.log_masses[running] += below.double().mean(dim=1).log()
            self.num_levels += 1
            bar.update()
            self.last_losses.append(grouped[below & is_last[:, None]])
            falls = (level < self.levels[running]) & below.any(dim=1)
            self.levels[running] = level
            # A group is done at the cutoff, and stuck where its loss does not fall any more.
            goes_on = falls & (level > cutoff)
            running, level, below = running[goes_on], level[goes_on], below[goes_on]
            places = self._places(running)
            dead, sources = places[~below.reshape(-1)], places[self._sources(below)]
            x[dead], loss[dead] = x[sources], loss[sources]
            limits[places] = level.repeat_interleave(grouped.shape[1])
            self._move(x, loss, places, limits)
            chains = {"x": x, "loss": loss, "running": running, "log_masses": self.log_masses}
            levels = {"num_levels": self.num_levels, "levels": self.levels, "rungs": self.rungs}
            has_ended = len(running) == 0  # so that a call that goes on after the pilot does not repeat it
            self._checkpoint.keep({**chains, **levels, "last_losses": self.last_losses}, at_once=has_ended)

    def _places(self, groups: Tensor) -> Tensor:
        """Positions of the chains of some groups. [n x size]"""
        size = self.options.num_chains // self.options.num_groups
        return (groups[:, None] * size + torch.arange(size)).reshape(-1)

    def _sources(self, below: Tensor) -> Tensor:
        """Positions of the chains that are copied over those not below their loss level, drawn in each group."""
        size = below.shape[1]
        drawn = [torch.empty(0, dtype=torch.int64)]
        for group, inside in enumerate(below):
            alive = inside.nonzero().reshape(-1)
            copies = torch.randint(len(alive), (size - len(alive),), generator=self._generator)
            drawn.append(group * size + alive[copies])
        return torch.cat(drawn)

    def _move(self, x: Tensor, loss: Tensor, moving: Tensor, limits: Tensor) -> None:
        """Takes chains through `num_moves` moves, each on a random ellipse to a point of an arc below its loss level.

        The arc shrinks toward the chain until a point is found. No chain waits for the others: one that has moved
        begins its next move, so that nearly all of them are evaluated together until the end.

        Args:
            x, loss: all chains, and their losses. [K, P], [K]
            moving: positions of those that move. [n]
            limits: the loss level of each. [K]
        """
        left = torch.full_like(loss, self.options.num_moves)
        angle, low, high, tries = (torch.empty_like(loss) for _ in range(4))
        begins = moving
        while len(moving):
            self._draw(self._partners, begins)
            angle[begins] = high[begins] = first = 2.0 * math.pi * self._uniform(len(begins))
            low[begins], tries[begins] = first - 2.0 * math.pi, 0.0
            tried = PointsInPlanes.on_ellipses(x, self._partners, moving, angle[moving])
            found = self.energy.losses_within(tried, limits[moving])
            inside = found <= limits[moving]
            arrived, outside = moving[inside], moving[~inside]
            turn_rows(x, self._partners, arrived, angle[arrived])
            loss[arrived] = found[inside]
            beyond = angle[outside]
            low[outside] = torch.where(beyond < 0, beyond, low[outside])
            high[outside] = torch.where(beyond < 0, high[outside], beyond)
            angle[outside] = low[outside] + self._uniform(len(outside)) * (high[outside] - low[outside])
            tries[outside] += 1.0
            ended = moving[inside | (tries[moving] >= _MOST_SHRINKS)]
            left[ended] -= 1.0
            moving, begins = moving[left[moving] > 0], ended[left[ended] > 0]

    def _draw(self, out: Tensor, rows: Tensor | None = None) -> Tensor:
        return Noise(self._generator).fill(out, rows, deviation=math.sqrt(self.task.measure.variance))

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator, dtype=torch.float64)


def _verdict(task: Task, run: _Splitting) -> tuple[Verdict, str]:
    spread, stuck = run.spread, run.levels[run.levels > task.cutoff]
    if len(stuck):
        pace = f"; at their pace they would need more than {_HOPELESS * _MOST_LEVELS:,.0f}" if run.is_hopeless else ""
        return Verdict.INVALID, (
            f"{len(stuck)} of {len(run.levels)} groups of chains came down to a loss of {float(stuck.max()):.3g} "
            f"in {run.num_levels:,} loss levels, not to the cutoff{pace}."
        )
    if spread > _MAX_SPREAD:
        return Verdict.LOWER_BOUND, (
            f"independent groups of chains spread by {spread:.1f} nats; raise `num_moves` or `num_chains`."
        )
    return Verdict.TRUSTWORTHY, (
        f"{len(run.log_masses)} groups of chains agree within {spread:.2f} nats on {run.num_levels} loss levels."
    )


def _finite(losses: Tensor) -> Tensor:
    return torch.nan_to_num(losses, nan=math.inf, posinf=math.inf)
