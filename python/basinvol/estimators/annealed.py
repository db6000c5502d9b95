"""Chains annealed from a Gaussian to the basin, and the exact conversion of their free energy to a volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..progress import progress_bar
from ..trust.chains import ChainSamples
from ..trust.diagnostics import Verdict
from .batched import BatchedLoss
from .checkpoint import Checkpoint
from .conversion import Conversion, Limits
from .curves import annealed_curve
from .groups import number_of_groups, volume_of_groups
from .hamiltonian import FIRST_ANGLE, Chains, Gibbs, Hamiltonian, Whitening
from .mixing import MAX_R_HAT, unmixed
from .population import Annealed, Passed, Population, Temperature, Underway
from .production import Plan, Production
from .stages import Stage
from .task import Outcome, Task
from .warm_up import MOST_DENSE, Warmed, fit_axes, start_inside, warm_up

_MOST_RAYS = 1000
_KEPT = (Annealed, Chains, ChainSamples, Conversion, Gibbs, Passed, Temperature, Underway, Whitening)
_LARGEST_BETA = 50.0  # times P / (cutoff - center loss), far beyond any basin's
# The verdict's limits: spread of ln Z over groups in nats, growth of the reference Gaussian in the last window in nats,
# acceptance of moves, and how many standard errors chains that should agree may differ.
_MAX_SPREAD, _MAX_GROWTH, _MIN_ACCEPTANCE, _MAX_ORIGIN_Z = 1.0, 2.0, 0.3, 5.0


@dataclass(frozen=True)
class Options:
    """How many chains there are, and how long they run.

    Attributes:
        num_chains: K, in `num_groups` independent populations whose spread is the error.
        num_groups: G, the number of these populations; 0 for 16, or for 8 where there are too few chains.
        num_leapfrog: most leapfrog steps of a trajectory, each of which costs a gradient.
        num_windows: windows of the warm-up, where there is one, each of `window` moves of all chains at the target;
            after each window the reference Gaussian is fitted anew.
        window: moves in a window.
        num_final: moves at the target at the end, all of which convert energy to volume.
        refine: temperatures of the production run for each temperature of the pilot.
        rounds: most production runs, each with twice the temperatures of the one before; another is only made if the
            groups spread by more than 0.7 nats, and the last one is the estimate.
        target_error: standard error of the log of the measure that is asked for, in nats; the last run is repeated, and
            all its repetitions averaged, until their error is as small. None for the error of one run.
        most_runs: most repetitions for that; if they do not reach the error, the reason of the verdict says so.
    """

    num_chains: int = 128
    num_groups: int = 0
    num_leapfrog: int = 10
    num_windows: int = 6
    window: int = 20
    num_final: int = 20
    refine: int = 3
    rounds: int = 3
    target_error: float | None = None
    most_runs: int = 32

    def __post_init__(self) -> None:
        if self.num_groups == 0:
            object.__setattr__(self, "num_groups", number_of_groups(self.num_chains, least=2))
        for name in ("num_leapfrog", "num_windows", "window", "num_final", "refine", "rounds", "most_runs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.target_error is not None and not self.target_error > 0.0:
            raise ValueError(f"`target_error` must be above 0 nats, or None, got {self.target_error}.")
        if self.num_groups < 2 or self.num_chains % self.num_groups or self.num_chains < 2 * self.num_groups:
            raise ValueError(
                "`num_chains` must be a multiple of `num_groups`, twice as large or more, and `num_groups` at least 2, "
                f"got {self.num_chains} and {self.num_groups}."
            )


def estimate(task: Task, options: Options) -> Outcome:
    """The volume log V = log Z(beta) + log E_beta[exp(beta (L - L0)) 1{L <= cutoff}], with Z(beta) from chains.

    Z(beta) is the integral of exp(-beta (L - L0)) over the measure, and beta is such that the mean loss is the cutoff.
    Under a Gaussian measure chains start in the measure itself; otherwise a warm-up fits a reference Gaussian. A pilot
    chooses temperatures and steps; then, with all of them fixed, a population is reweighted, resampled and moved by
    Hamiltonian Monte Carlo from one temperature to the next. Sources: Neal 2001 (annealed importance sampling); Del
    Moral, Doucet and Jasra 2006 (with resampling), whose estimate of Z is unbiased.

    The chains measure {L <= cutoff} wherever they reach it, not only what is visible from the center: at least what
    the rays measure. Up to 500 parameters they move along the axes of secants, that is of gradients at the ends of
    rays. Bias: small where groups of chains agree (`mean_of_groups`), and without limit where chains do not mix, for
    example between basins, which no diagnostic excludes. In Lebesgue measure a basin with unbounded directions has no
    answer: the chains drift, and the verdict says so. Cost: K chains x (windows + 2 x temperatures) x leapfrog steps x
    3 evaluations, and up to seven times as much where groups spread.
    """
    rays = task.uniform_rays(_MOST_RAYS)
    center_loss = rays.center_loss
    # Axes of secants are taken in all coordinates; without them, chains move only in those that the loss depends on.
    reduces = task.measure.is_gaussian and task.space.dim > MOST_DENSE
    energy = task.energy(rays.center, reduces)
    generator = task.generator_of(Stage.ANNEALED)
    checkpoint = Checkpoint(task, "annealed", generator, _KEPT)
    warmed = None
    if task.measure.is_gaussian:
        axes = fit_axes(task, energy, rays)
        hamiltonian = _from_measure(task, energy, options, center_loss, axes, generator)
    else:
        start = start_inside(task, energy, rays, options.num_chains, options.num_leapfrog, generator)
        warmed = warm_up(task, start, options.num_windows, options.window, checkpoint.part("warm-up"))
        hamiltonian = warmed.hamiltonian
    population = Population(hamiltonian, options.num_chains, options.num_groups, generator)
    schedule, has_arrived = _temperatures(population, task, checkpoint.part("pilot"))
    plan = Plan(
        options.refine, options.rounds if has_arrived else 1, options.num_final, options.target_error, options.most_runs
    )
    limits = Limits(task.cutoff, task.measure.limit)
    found = Production.of(population, schedule, plan, limits, checkpoint, task.progress)

    evidence = _evidence(options, hamiltonian, found, warmed)
    verdict, reason = _judge(evidence, task.space.dim, options, found, has_arrived)
    if options.target_error is not None and not found.standard_error <= options.target_error:
        reason += f" The error asked for, {options.target_error:g} nats, was not reached in {len(found.runs)} runs."
    conversion, log_groups = found.conversion, found.log_z + _log_reference(task, hamiltonian.whitening)
    shift = conversion.log_mean
    volume = volume_of_groups(task, log_groups, verdict, reason, shift, conversion.error, conversion.slope)
    curve = None
    if task.measure.is_gaussian:  # a fitted reference is no measure, and what lies between has no cutoff of its own
        passed = annealed_curve(found.passed(), hamiltonian.gibbs)
        curve = passed.ending(task.cutoff, volume.log_volume, volume.standard_error, log_groups + shift)
    return Outcome.of_rays(volume, rays, evidence, beyond_star=True, curve=curve, samples=found.samples)


def _from_measure(
    task: Task,
    energy: BatchedLoss,
    options: Options,
    center_loss: float,
    axes: Tensor | None,
    generator: torch.Generator,
) -> Hamiltonian:
    """Moves that start in the Gaussian measure itself, which has the width of every free direction.

    Axes [P, P] turn the coordinates in which chains move, so that they can take each stiff direction at its own step.
    """
    lengths = torch.full((energy.dim,), math.sqrt(task.measure.variance), dtype=torch.float64)
    whitening = Whitening(torch.zeros_like(lengths), lengths, axes)
    largest = Gibbs(_LARGEST_BETA * energy.dim / (task.cutoff - center_loss), whitening.precision or 0.0, center_loss)
    return Hamiltonian(energy, whitening, largest, options.num_leapfrog, FIRST_ANGLE, generator)


def _temperatures(population: Population, task: Task, checkpoint: Checkpoint) -> tuple[list[Temperature], bool]:
    """The schedule, and whether it reached its end; under a Gaussian measure it also finds beta."""

    def is_at_cutoff(chains: Chains, log_weights: Tensor) -> bool:
        return float((torch.softmax(log_weights, dim=0) * chains.loss).sum()) <= task.cutoff

    def choose() -> dict[str, Any]:
        is_gaussian = task.measure.is_gaussian
        with progress_bar(task.progress, 0, "pilot", "temperature") as bar:
            chosen = population.choose_temperatures(bar, is_at_cutoff if is_gaussian else None, reshapes=is_gaussian)
        return dict(zip(("schedule", "t", "has_arrived"), chosen, strict=True))

    schedule, t, has_arrived = checkpoint.once(choose).values()
    if not task.measure.is_gaussian:
        return schedule, has_arrived
    # The pilot anneals toward a beta far too large and ends where the mean loss meets the cutoff, at the share t of the
    # way: t x beta is the target, and temperatures are shares of the way to it.
    gibbs = population.hamiltonian.gibbs
    population.hamiltonian.gibbs = Gibbs(t * gibbs.beta, gibbs.precision, gibbs.center_loss)
    return [Temperature(part.t / t, part.step, part.shape) for part in schedule], has_arrived


def _log_reference(task: Task, whitening: Whitening) -> float:
    """The log of the integral of exp(-|y|^2/2) over x, or over the Gaussian measure."""
    if task.measure.is_gaussian:
        return 0.0  # it is the measure itself
    return 0.5 * task.space.dim * math.log(2.0 * math.pi) + whitening.log_det


def _evidence(options: Options, hamiltonian: Hamiltonian, found: Production, warmed: Warmed | None) -> dict[str, Any]:
    """The diagnostics of the chains by name, as results show them."""
    # Annealed chains must agree with warmed-up ones or, where there are none, with themselves some moves earlier.
    origin = 0.0
    for run, conversion in zip(found.runs, found.conversions, strict=True):
        if warmed is None:
            pairs = [(conversion.first, conversion.last.loss)]
        else:
            pairs = list(zip(warmed.statistics(warmed.chains), warmed.statistics(conversion.last), strict=True))
        origin = max(origin, *(_distance(first, second, run.log_chain) for first, second in pairs))
    conversion = found.conversion
    return {
        "chains": f"{options.num_chains} in {options.num_groups} groups",
        "reference": "the measure" if warmed is None else "fitted",
        "coordinates": len(hamiltonian.whitening.mean),
        "temperatures": found.num_temperatures,
        "runs": len(found.runs),
        "beta": hamiltonian.gibbs.beta,
        "spread_of_log_z": float(found.log_z.std()),
        "smallest_acceptance": found.acceptance,
        "samples_at_the_cutoff": conversion.num_samples,
        "smooth_conversion": conversion.is_smoothed,
        "growth_in_last_window": 0.0 if warmed is None else warmed.growth,
        "origins_differ_by_z": origin,
        "r_hat": conversion.r_hat,
        "visible_from_center": conversion.visible,
    }


def _judge(
    evidence: dict[str, Any],
    dim: int,
    options: Options,
    found: Production,
    has_arrived: bool,
) -> tuple[Verdict, str]:
    conversion = found.conversion
    spread, growth = evidence["spread_of_log_z"], evidence["growth_in_last_window"]
    if not bool(torch.isfinite(found.log_z).all()) or not math.isfinite(conversion.log_mean):
        return Verdict.INVALID, "chains ended at a loss that is not finite, or none near the cutoff."
    if not has_arrived:
        return Verdict.INVALID, "the annealing ended before it came to the basin; the basin may be too thin for chains."
    # The widths of P coordinates fitted to K chains scatter, and with them the log of their product by sqrt(P / K).
    if growth > _MAX_GROWTH + 2.0 * math.sqrt(dim / options.num_chains):
        return Verdict.LOWER_BOUND, (
            f"the chains were still spreading, by {growth:.1f} nats in the last window; raise `num_windows`, "
            "or choose a finite measure if the basin has unbounded directions."
        )
    if spread > _MAX_SPREAD:
        return Verdict.LOWER_BOUND, (
            f"independent groups of chains spread by {spread:.1f} nats; raise `refine` or `num_chains`."
        )
    if found.acceptance < _MIN_ACCEPTANCE:
        return Verdict.LOWER_BOUND, f"the chains accepted only {found.acceptance:.0%} of their moves somewhere."
    if conversion.r_hat > MAX_R_HAT:
        return Verdict.LOWER_BOUND, unmixed(conversion.r_hat)
    if evidence["origins_differ_by_z"] > _MAX_ORIGIN_Z:
        return Verdict.LOWER_BOUND, (
            f"chains that should agree differ by {evidence['origins_differ_by_z']:.1f} standard errors."
        )
    return Verdict.TRUSTWORTHY, (
        f"{len(found.log_z)} groups of chains agree within {spread:.2f} nats, acceptance at least "
        f"{found.acceptance:.0%}, {conversion.num_samples:.0f} samples at the cutoff."
    )


def _distance(first: Tensor, second: Tensor, log_weights: Tensor) -> float:
    """The difference of the means of a plain and a weighted sample, in standard errors."""
    share = log_weights.exp()
    mean = float((share * second).sum())
    variance = float((share.square() * (second - mean) ** 2).sum()) + float(first.var()) / len(first)
    return abs(float(first.mean()) - mean) / math.sqrt(variance) if variance > 0 else 0.0
