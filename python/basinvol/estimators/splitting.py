"""A Gaussian mass as a product of conditional probabilities, without gradients and without rays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..inputs.arguments import whole_number
from ..progress import Bar, progress_bar
from ..trust.diagnostics import Verdict
from .checkpoint import Checkpoint
from .curves import Rung, splitting_curve
from .groups import AIM_SPREAD, cutoff_slope, number_of_groups, volume_of_groups
from .stages import Stage
from .task import Outcome, Task

_MOST_RAYS = 100  # they give the center and what probes need; the chains do the rest
_MOST_LEVELS = 2000
_MOST_SHRINKS = 100  # tries of one move; a chain that finds no point below the loss level stays where it is
_MAX_SPREAD = 1.0  # nats, over groups


@dataclass(frozen=True)
class Options:
    """How many chains there are, and how long they run.

    Attributes:
        num_chains: K, in `num_groups` independent populations whose spread is the error.
        num_groups: G, the number of these populations; 0 for 16, or for 8 where there are too few chains.
        num_moves: moves of every chain at every loss level.
        share: share of the chains of a group that is below its next loss level.
        rounds: most runs, each with twice the chains of the one before; another is only made if the groups spread by
            more than 0.7 nats, and not so far apart that the runs left could not bring them within one nat. The last
            run is the estimate.
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
    limit, to either side, where chains do not mix. Cost: chains x loss levels x moves x about five evaluations; a loss
    level is ln 2 nats.
    """
    if not task.measure.is_gaussian:
        raise ValueError(f"method='splitting' measures a Gaussian mass, got measure={task.measure.name!r}.")
    rays = task.uniform_rays(_MOST_RAYS)
    generator = task.generator_of(Stage.SPLITTING)
    checkpoint = Checkpoint(task, "splitting", generator, (Rung,))
    for round_ in range(options.rounds):
        chains = replace(options, num_chains=options.num_chains * 2**round_)
        run = _Splitting(task, chains, rays.center, generator, checkpoint.part(f"round {round_}"))
        with progress_bar(task.progress, 0, "splitting", "level") as bar:
            log_masses = run.run(bar)
        # More chains do not help those that are stuck; twice as many are taken to halve the spread at best.
        spread, rounds_left = float(log_masses.std()), options.rounds - 1 - round_
        if run.is_stuck or not AIM_SPREAD < spread <= _MAX_SPREAD * 2**rounds_left:
            break
    details = {
        "chains": f"{run.options.num_chains} in {options.num_groups} groups",
        "loss_levels": run.num_levels,
        "spread_of_log_mass": float(log_masses.std()),
    }
    slope = cutoff_slope(torch.cat(run.last_losses), rays.center_loss, task.cutoff) if run.last_losses else math.nan
    volume = volume_of_groups(task, log_masses, *_verdict(task, log_masses, run), slope=slope)
    curve = None if run.is_stuck else splitting_curve(run.rungs, task.cutoff)
    return Outcome.of_rays(volume, rays, details, beyond_star=True, curve=curve)


class _Splitting:
    """Groups of chains on their way down, each by loss levels of its own.

    A group that chose its levels together with others would share their error, and the spread of groups would not show
    it: with common levels error bars were 1.3 times too small.

    Attributes:
        num_levels: the most loss levels that a group took.
        levels: the loss level that each group has reached. [G] float64
        last_losses: losses of the chains that are in the basin at the end.
        rungs: the chains of each group at each of its loss levels.
    """

    def __init__(
        self, task: Task, options: Options, center: Tensor, generator: torch.Generator, checkpoint: Checkpoint
    ) -> None:
        self.task, self.options = task, options
        # Chains move in the coordinates that the loss depends on, as the measure is a Gaussian.
        self.energy = task.energy(center, reduces=True)
        self.num_levels, self.last_losses = 0, list[Tensor]()
        self.levels = torch.full((options.num_groups,), math.inf, dtype=torch.float64)
        self.rungs: list[list[Rung]] = [[] for _ in range(options.num_groups)]
        self._generator, self._checkpoint = generator, checkpoint

    @property
    def is_stuck(self) -> bool:
        """Whether a group did not come down to the cutoff."""
        return bool((self.levels > self.task.cutoff).any())

    def run(self, bar: Bar) -> Tensor:
        """The log of the mass from each group; the bar is told of every loss level. [G] float64"""
        options, cutoff = self.options, self.task.cutoff
        there = self._checkpoint.restored()
        if there is None:
            x = self._noise(options.num_chains)
            loss = _finite(self.energy.losses(x))
            log_mass = torch.zeros(options.num_groups, dtype=torch.float64)
            running = torch.arange(options.num_groups)
        else:
            x, loss, log_mass, running = (there[name] for name in ("x", "loss", "log_mass", "running"))
            self.num_levels, self.levels, self.rungs = (there[name] for name in ("num_levels", "levels", "rungs"))
            self.last_losses = there["last_losses"]
            bar.update(self.num_levels)
        while len(running) and self.num_levels < _MOST_LEVELS:
            grouped = loss.reshape(options.num_groups, -1)[running]
            for group, losses in zip(running.tolist(), grouped, strict=True):
                self.rungs[group].append(Rung(float(self.levels[group]), float(log_mass[group]), losses))
            kept = min(math.ceil(options.share * grouped.shape[1]), grouped.shape[1] - 1)
            # The loss of the best chain that is given up: the share strictly below it is unbiased, and the share at or
            # below that of the worst survivor is too large, by one chain in each group at every level.
            level = grouped.sort(dim=1).values[:, kept]
            is_last = level <= cutoff
            level = torch.where(is_last, cutoff, level)
            below = torch.where(is_last[:, None], grouped <= cutoff, grouped < level[:, None])
            log_mass[running] += below.double().mean(dim=1).log()
            self.num_levels += 1
            bar.update()
            self.last_losses.append(grouped[below & is_last[:, None]])
            falls = (level < self.levels[running]) & below.any(dim=1)
            self.levels[running] = level
            # A group is done at the cutoff, and stuck where its loss does not fall any more.
            goes_on = falls & (level > cutoff)
            running, level, below = running[goes_on], level[goes_on], below[goes_on]
            places = self._places(running)
            sources = places[self._survivors(below)]
            x[places], loss[places] = x[sources], loss[sources]
            x[places], loss[places] = self._moved(x[places], loss[places], level.repeat_interleave(grouped.shape[1]))
            chains = {"x": x, "loss": loss, "log_mass": log_mass, "running": running}
            levels = {"num_levels": self.num_levels, "levels": self.levels, "rungs": self.rungs}
            has_ended = len(running) == 0  # so that a call that goes on in the next round does not repeat this one
            self._checkpoint.keep({**chains, **levels, "last_losses": self.last_losses}, at_once=has_ended)
        return log_mass

    def _places(self, groups: Tensor) -> Tensor:
        """Positions of the chains of some groups. [n x size]"""
        size = self.options.num_chains // self.options.num_groups
        return (groups[:, None] * size + torch.arange(size)).reshape(-1)

    def _survivors(self, below: Tensor) -> Tensor:
        """Positions of chains below their loss level, one for each place; the others are replaced at random. [K]"""
        size = below.shape[1]
        parts = [torch.empty(0, dtype=torch.int64)]
        for group, inside in enumerate(below):
            alive = inside.nonzero().reshape(-1)
            drawn = alive[torch.randint(len(alive), (size - len(alive),), generator=self._generator)]
            parts.append(group * size + torch.cat([alive, drawn]))
        return torch.cat(parts)

    def _moved(self, x: Tensor, loss: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Every chain after `num_moves` moves, each along a random ellipse to a point of an arc below its loss level.

        The arc shrinks toward the chain until a point is found. No chain waits for the others: one that has moved
        begins its next move, so that nearly all of them are evaluated together until the end.

        Args:
            x, loss: the chains, and their losses. [K, P], [K]
            level: the loss level of each. [K]
        """
        moved, moved_loss = torch.empty_like(x), torch.empty_like(loss)
        # What follows has an entry for each chain that still moves; `place` is where it belongs.
        place, left = torch.arange(len(x)), torch.full((len(x),), self.options.num_moves)
        ellipse, angle, low, high, tries = torch.empty_like(x), *(torch.zeros_like(loss) for _ in range(4))
        begins = place
        while len(place):
            ellipse[begins] = self._noise(len(begins))
            angle[begins] = high[begins] = first = 2.0 * math.pi * self._uniform(len(begins))
            low[begins], tries[begins] = first - 2.0 * math.pi, 0.0
            tried = x * angle.cos()[:, None] + ellipse * angle.sin()[:, None]
            found = _finite(self.energy.losses(tried))
            inside = found <= level
            x, loss = torch.where(inside[:, None], tried, x), torch.where(inside, found, loss)
            # Of the chains that have moved these are not read again.
            is_before = angle < 0
            low, high = torch.where(is_before, angle, low), torch.where(is_before, high, angle)
            outside = (~inside).nonzero().reshape(-1)
            angle[outside] = low[outside] + self._uniform(len(outside)) * (high[outside] - low[outside])
            tries += 1.0
            has_ended = inside | (tries >= _MOST_SHRINKS)
            left -= has_ended.long()
            goes_on = left > 0
            if not goes_on.all():
                done = ~goes_on
                moved[place[done]], moved_loss[place[done]] = x[done], loss[done]
                place, left, x, loss, level = (part[goes_on] for part in (place, left, x, loss, level))
                state = (ellipse, angle, low, high, tries, has_ended)
                ellipse, angle, low, high, tries, has_ended = (part[goes_on] for part in state)
            begins = has_ended.nonzero().reshape(-1)
        return moved, moved_loss

    def _noise(self, count: int) -> Tensor:
        # Five times as fast as in float64, and no coarser than the parameters of a network.
        noise = torch.randn((count, self.energy.dim), generator=self._generator, dtype=torch.float32).double()
        return math.sqrt(self.task.measure.variance) * noise

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator, dtype=torch.float64)


def _verdict(task: Task, log_masses: Tensor, run: _Splitting) -> tuple[Verdict, str]:
    spread = float(log_masses.std())
    stuck = run.levels[run.levels > task.cutoff]
    if len(stuck):
        return Verdict.INVALID, (
            f"{len(stuck)} of {len(run.levels)} groups of chains came down to a loss of {float(stuck.max()):.3g}, "
            "not to the cutoff."
        )
    if spread > _MAX_SPREAD:
        return Verdict.LOWER_BOUND, (
            f"independent groups of chains spread by {spread:.1f} nats; raise `num_moves` or `num_chains`."
        )
    return Verdict.TRUSTWORTHY, (
        f"{len(log_masses)} groups of chains agree within {spread:.2f} nats on {run.num_levels} loss levels."
    )


def _finite(losses: Tensor) -> Tensor:
    return torch.nan_to_num(losses, nan=math.inf, posinf=math.inf)
