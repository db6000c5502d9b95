"""Learning coefficients that are known, by this package and, where it is installed, by devinterp.

devinterp samples the posterior by stochastic gradient Langevin dynamics (Lau et al. 2023). Its chains get the same
prior, all rows in every step, and the temperature at which the mean excess loss is in the middle of what ours were
fitted to.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import basinvol as bv
from basinvol import ground_truth as gt

from .lines import begin, record

# For 10,000 parameters: 128 chains at three times as many temperatures would take over an hour.
_FEW = {"method_options": {"num_chains": 32, "refine": 1, "rounds": 1}}
_Task = Callable[[], tuple[Any, ...]]
_CASES: tuple[tuple[str, int, float, _Task, dict[str, Any]], ...] = (
    ("quadratic", 4, 2.0, gt.ellipsoid(4, 3.0).task, {}),
    *(
        (
            f"linear network {n}-{h}-{m}",
            h * (n + m),
            gt.reduced_rank_regression(n, h, m).learning_coefficient,
            gt.reduced_rank_regression(n, h, m).task,
            settings,
        )
        for n, h, m, settings in ((2, 2, 2, {}), (3, 2, 3, {}), (10, 5, 10, {}), (100, 50, 100, _FEW))
    ),
)
_RATES = (1e-2, 1e-3, 1e-4, 1e-5)  # of learning: devinterp asks its users to choose one
_CHAINS, _BURN_IN, _DRAWS = 4, 1000, 3000


def learning() -> None:
    """Measure every case."""
    begin("learning")
    has_devinterp = importlib.util.find_spec("devinterp") is not None
    for name, dim, truth, task, settings in _CASES:
        started = time.perf_counter()
        found = bv.learning_coefficient(*task(), **settings)
        seconds = round(time.perf_counter() - started, 1)
        of = {"part": "learning", "case": name, "dim": dim, "truth": truth}
        record(
            **of,
            method="basinvol",
            value=found.value,
            standard_error=found.standard_error,
            smallest=found.smallest,
            largest=found.largest,
            verdict=str(found.estimate.diagnostics.verdict),
            is_straight=found.is_straight,
            evaluations=found.estimate.num_evaluations,
            seconds=seconds,
        )
        for rate in _RATES if has_devinterp else ():
            beta = found.value / math.sqrt(found.smallest * found.largest)
            record(**of, method="devinterp", rate=rate, **_by_langevin(task, beta, rate))


def _by_langevin(task: _Task, beta: float, rate: float) -> dict[str, Any]:
    """Return beta times the mean excess loss of devinterp's chains, its spread over chains, and what it took.

    Args:
        task: The model at its minimum, the loss and the data.
        beta: The inverse temperature.
        rate: The learning rate.
    """
    from devinterp.optim import SGMCMC
    from devinterp.slt.sampler import sample_single_chain

    model, loss_fn, (inputs, targets) = task()
    center_loss = float(loss_fn(model(inputs), targets).detach())
    losses: dict[int, list[float]] = {}
    started = time.perf_counter()
    for chain in range(_CHAINS):
        sample_single_chain(
            ref_model=model,
            dataset=[{"input_ids": torch.zeros(1)}],  # all rows are one batch, which `evaluate` has
            evaluate=lambda moved, _: (loss_fn(moved(inputs), targets), {}),
            param_masks={parameter: None for parameter, _ in model.named_parameters()},
            num_draws=_DRAWS,
            num_burnin_steps=_BURN_IN,
            sampling_method=SGMCMC.sgld,
            sampling_method_kwargs={"lr": rate, "nbeta": beta, "localization": 1.0},
            chain=chain,
            seed=chain,
            callbacks=[lambda loss, chain, **_: losses.setdefault(chain, []).append(float(loss))],
            batch_size=1,
        )
    values = [beta * (statistics.fmean(found) - center_loss) for found in losses.values() if len(found) == _DRAWS]
    return {
        "value": statistics.fmean(values) if values else None,
        "standard_error": statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        "chains_that_ended_well": len(values),
        "evaluations": 3 * _CHAINS * (_BURN_IN + _DRAWS),
        "seconds": round(time.perf_counter() - started, 1),
    }
