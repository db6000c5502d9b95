"""Runs of an annealing that count: finer ones until groups agree, then as many as the error asked for takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..progress import progress_bar
from ..trust.chains import ChainSamples
from ..trust.diagnostics import log_mean_exp
from .checkpoint import Checkpoint
from .conversion import Conversion, Limits, convert
from .groups import AIM_SPREAD, mean_of_groups
from .population import Annealed, Passed, Population, Temperature, refined


@dataclass(frozen=True)
class Plan:
    """How much is run.

    Attributes:
        refine: temperatures of the first run for each temperature of the pilot.
        rounds: most runs, each with twice the temperatures of the one before, while groups spread too far.
        num_final: moves of every chain at the target, after the annealing.
        target_error: standard error that is asked for, in nats, or None.
        most_runs: most repetitions for that.
    """

    refine: int
    rounds: int
    num_final: int
    target_error: float | None
    most_runs: int


@dataclass
class Production:
    """Independent runs with the same temperatures, whose groups are averaged together.

    Attributes:
        runs: the chains of every run, with what they say of the integral.
        conversions: of every run, from its integral to the measure.
        num_temperatures: of each run.
    """

    runs: list[Annealed] = field(default_factory=list)
    conversions: list[Conversion] = field(default_factory=list)
    num_temperatures: int = 0

    @classmethod
    def of(
        cls,
        population: Population,
        schedule: Sequence[Temperature],
        plan: Plan,
        limits: Limits,
        checkpoint: Checkpoint,
        progress: bool,
    ) -> Production:
        """Runs that fulfil the plan.

        Args:
            population: the chains' moves and groups.
            schedule: temperatures of the pilot.
            plan: how much is run.
            limits: the bounds of the set that is measured.
            checkpoint: where chains and finished runs are kept.
            progress: whether to show a bar for every run.
        """

        def one(refine: int, number: int = 0) -> Production:
            part = checkpoint.part(f"run {number} with {refine} temperatures for each")
            made = part.once(lambda: cls._one(population, refined(schedule, refine), plan, limits, part, progress))
            return cls([made["annealed"]], [made["conversion"]], refine * len(schedule))

        refine, found = plan.refine, one(plan.refine)
        for _ in range(1, plan.rounds):
            if float(found.log_z.std()) <= AIM_SPREAD:
                break
            refine *= 2
            found = one(refine)
        while plan.target_error is not None and len(found.runs) < plan.most_runs:
            # Whatever the error is now, it falls as the root of the number of runs.
            ratio = found.standard_error / plan.target_error
            if ratio <= 1.0 or not math.isfinite(ratio):
                break
            wanted = min(math.ceil(len(found.runs) * ratio**2), plan.most_runs)
            for _ in range(wanted - len(found.runs)):
                found.add(one(refine, len(found.runs)))
        return found

    @staticmethod
    def _one(
        population: Population,
        schedule: Sequence[Temperature],
        plan: Plan,
        limits: Limits,
        checkpoint: Checkpoint,
        progress: bool,
    ) -> dict[str, Annealed | Conversion]:
        """A single run of the plan, through all temperatures of a schedule."""
        with progress_bar(progress, len(schedule) + plan.num_final, "annealing", "move") as bar:
            chains, annealed = population.anneal(schedule, bar, checkpoint.part("annealing"))
            at_the_end = checkpoint.part("at the end")
            conversion = convert(
                population.hamiltonian, chains, annealed.log_chain, limits, plan.num_final, bar, at_the_end
            )
        return {"annealed": annealed, "conversion": conversion}

    def add(self, other: Production) -> None:
        """Takes in the runs of another production with the same temperatures."""
        self.runs += other.runs
        self.conversions += other.conversions

    @property
    def log_z(self) -> Tensor:
        """The log of the ratio of integrals, from each group of all runs. [G] float64"""
        return torch.cat([run.log_z for run in self.runs])

    @property
    def acceptance(self) -> float:
        """The smallest acceptance of all runs."""
        return min(run.acceptance for run in self.runs)

    @property
    def conversion(self) -> Conversion:
        """The conversion of all runs together: averages, but the worst of what tells of trouble."""
        parts = self.conversions
        count = len(parts)
        return dataclasses.replace(
            parts[-1],
            log_mean=log_mean_exp(torch.tensor([part.log_mean for part in parts], dtype=torch.float64)),
            error=math.sqrt(sum(part.error**2 for part in parts)) / count,
            num_samples=sum(part.num_samples for part in parts),
            is_smoothed=any(part.is_smoothed for part in parts),
            visible=sum(part.visible for part in parts) / count,
            r_hat=max(part.r_hat for part in parts),
            slope=sum(part.slope for part in parts) / count,
        )

    @property
    def samples(self) -> ChainSamples:
        """What the chains of all runs looked like at the target."""
        parts = [part.samples for part in self.conversions]
        return ChainSamples(
            torch.cat([part.loss for part in parts], dim=1),
            torch.cat([part.distance for part in parts], dim=1),
            torch.cat([part.sizes for part in parts], dim=1),
            parts[0].coordinates,
        )

    @property
    def standard_error(self) -> float:
        """The standard error of the log of the measure, in nats."""
        return math.hypot(mean_of_groups(self.log_z)[1], self.conversion.error)

    def passed(self) -> list[Passed]:
        """The populations of all runs together, at every temperature."""
        return [
            Passed(
                states[0].t,
                torch.cat([state.loss for state in states]),
                torch.cat([state.log_weights for state in states]),
                torch.cat([state.log_z for state in states]),
            )
            for states in zip(*(run.passed for run in self.runs), strict=True)
        ]
