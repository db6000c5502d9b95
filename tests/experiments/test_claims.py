"""Each claim of the paper can come out either way."""

from __future__ import annotations

import pandas as pd
import pytest

from basinvol.experiments.claims import judge


def run_with(volumes: dict[tuple[int, int], float], test_losses: dict[int, float]) -> pd.DataFrame:
    """Rows (model size, landscape size) -> log mean power."""
    return pd.DataFrame(
        {
            "model_seed": 0,
            "cutoff": 0.1,
            "model_size": model,
            "landscape_size": landscape,
            "log_mean_power": value,
            "num_params": 100,
            "test_loss": test_losses[model],
        }
        for (model, landscape), value in volumes.items()
    )


AS_PUBLISHED = {(1, 1): 9.0, (10, 1): 8.0, (10, 10): 7.0, (100, 1): 6.0, (100, 10): 5.0, (100, 100): 4.0}
LOSSES = {1: 3.0, 10: 2.0, 100: 1.0}


def test_every_claim_holds_where_it_does() -> None:
    assert [claim.verdict for claim in judge(run_with(AS_PUBLISHED, LOSSES))] == ["holds"] * 3


@pytest.mark.parametrize(
    ("changed", "losses", "failing"),
    [
        ({(100, 10): 7.5}, LOSSES, [0]),
        ({(10, 1): 9.5}, LOSSES, [0, 1]),
        ({(10, 10): -float("inf")}, LOSSES, [0]),
        ({}, {**LOSSES, 100: 2.5}, [1]),
        ({(100, 100): 7.5}, LOSSES, [2]),
    ],
)
def test_a_claim_fails_where_it_does_not(
    changed: dict[tuple[int, int], float], losses: dict[int, float], failing: list[int]
) -> None:
    verdicts = [claim.verdict for claim in judge(run_with({**AS_PUBLISHED, **changed}, losses))]
    found = [number for number, verdict in enumerate(verdicts) if verdict == "does not hold"]
    assert found == failing


def test_one_model_alone_says_nothing() -> None:
    assert {claim.verdict for claim in judge(run_with({(1, 1): 9.0}, LOSSES))} == {"not measurable"}
