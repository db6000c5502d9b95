"""Each claim of the paper can come out either way, or not at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from basinvol.experiments.report.claims import CLAIMS, judge

SCALING = ("own_is_largest", "more_data_generalizes", "volume_falls_with_size", "minima_end")
NO_VOLUME = -float("inf")


def run_with(volumes: dict[tuple[int, int], float], test_losses: dict[int, float]) -> pd.DataFrame:
    """Rows (model size, landscape size) -> log mean power."""
    return pd.DataFrame(
        {
            "model_seed": 0,
            "cutoff": 0.1,
            "model_size": model,
            "variant": "-",
            "landscape_size": landscape,
            "log_mean_power": value,
            "num_params": 100,
            "test_loss": test_losses[model],
            "ends_at": {1: 5, 10: 50}.get(model, np.nan),
        }
        for (model, landscape), value in volumes.items()
    )


AS_PUBLISHED = {(1, 1): 9.0, (10, 1): 8.0, (10, 10): 7.5, (100, 1): 6.0, (100, 10): 5.0, (100, 100): 4.0}
LOSSES = {1: 3.0, 10: 2.0, 100: 1.0}


def verdicts(rows: pd.DataFrame, *names: str) -> list[str]:
    return [claim.verdict for claim in judge(rows, names)]


def test_every_claim_of_data_scaling_holds_where_it_does() -> None:
    assert verdicts(run_with(AS_PUBLISHED, LOSSES), *SCALING) == ["holds"] * 4


@pytest.mark.parametrize(
    ("changed", "losses", "failing"),
    [
        ({(100, 10): 7.6}, LOSSES, [0]),
        ({(10, 1): 9.5}, LOSSES, [0, 1, 3]),
        ({(10, 10): NO_VOLUME}, LOSSES, [0]),
        ({}, {**LOSSES, 100: 2.5}, [1]),
        ({(100, 100): 7.6}, LOSSES, [2]),
        ({(10, 10): 5.5}, LOSSES, [3]),
    ],
)
def test_a_claim_of_data_scaling_fails_where_it_does_not_hold(
    changed: dict[tuple[int, int], float], losses: dict[int, float], failing: list[int]
) -> None:
    found = verdicts(run_with({**AS_PUBLISHED, **changed}, losses), *SCALING)
    assert [number for number, verdict in enumerate(found) if verdict == "does not hold"] == failing


def test_a_minimum_that_does_not_end_on_the_data_speaks_against_its_end() -> None:
    rows = run_with(AS_PUBLISHED, LOSSES).assign(ends_at=np.nan)
    assert verdicts(rows, "minima_end") == ["does not hold"]


def test_one_model_alone_says_nothing_and_the_claim_says_why() -> None:
    for claim in judge(run_with({(1, 1): 9.0}, LOSSES), SCALING):
        assert claim.verdict == "not measurable"
        assert claim.reason


def poisoned(volumes: list[float]) -> pd.DataFrame:
    """One landscape, minima of 0, 10, 20 ... bad examples."""
    return pd.DataFrame(
        {
            "model_seed": 0,
            "variant": "-",
            "cutoff": 0.1,
            "model_level": 10 * np.arange(len(volumes)),
            "landscape_size": 100,
            "log_mean_power": volumes,
            "test_loss": 1.0,
        }
    )


def test_bad_data_must_shrink_every_minimum_that_is_one() -> None:
    assert verdicts(poisoned([5.0, 4.0, 3.0]), "bad_data_shrinks") == ["holds"]
    assert verdicts(poisoned([5.0, 4.0, NO_VOLUME]), "bad_data_shrinks") == ["holds"]
    assert verdicts(poisoned([5.0, 6.0, 3.0]), "bad_data_shrinks") == ["does not hold"]
    assert verdicts(poisoned([5.0, NO_VOLUME, NO_VOLUME]), "bad_data_shrinks") == ["not measurable"]
    assert verdicts(poisoned([NO_VOLUME, 4.0]), "bad_data_shrinks") == ["not measurable"]


def varied(volumes: dict[str, list[float]], losses: dict[str, float], accuracies: dict[str, float]) -> pd.DataFrame:
    """Variant -> volume of every seed, on one landscape."""
    return pd.DataFrame(
        {
            "model_seed": seed,
            "variant": variant,
            "cutoff": 0.1,
            "model_size": 100,
            "landscape_size": 100,
            "log_mean_power": value,
            "test_loss": losses.get(variant, 1.0),
            "test_accuracy": accuracies.get(variant, 0.5),
        }
        for variant, values in volumes.items()
        for seed, value in enumerate(values)
    )


def test_sam_must_be_larger_and_generalize_better() -> None:
    def verdict(sam: float, loss: float) -> str:
        return verdicts(varied({"AdamW": [5.0], "SAM": [sam]}, {"SAM": loss}, {}), "sam_is_larger")[0]

    assert verdict(6.0, 0.9) == "holds"
    assert verdict(4.0, 0.9) == "does not hold"
    assert verdict(6.0, 1.1) == "does not hold"
    assert verdict(NO_VOLUME, 0.9) == "not measurable"


def test_grokking_needs_a_falling_volume_and_a_rising_accuracy() -> None:
    def verdict(last: float, accuracy: float) -> str:
        rows = varied({"epoch 1": [5.0], "epoch 2": [last]}, {}, {"epoch 2": accuracy})
        return verdicts(rows, "volume_falls_while_accuracy_rises")[0]

    assert verdict(4.0, 0.9) == "holds"
    assert verdict(6.0, 0.9) == "does not hold"
    assert verdict(4.0, 0.4) == "does not hold"
    assert verdict(NO_VOLUME, 0.9) == "not measurable"


def test_a_variation_matters_if_it_moves_the_volume_by_more_than_the_seed_does() -> None:
    def verdict(*values: list[float]) -> str:
        volumes = {f"batch {index}": some for index, some in enumerate(values)}
        return verdicts(varied(volumes, {}, {}), "variation_matters")[0]

    assert verdict([5.0, 5.1], [9.0, 9.1]) == "holds"
    assert verdict([5.0, 9.0], [5.5, 9.5]) == "does not hold"
    assert verdict([5.0], [9.0]) == "not measurable"


def test_the_order_survives_only_if_more_data_is_never_larger() -> None:
    assert verdicts(run_with(AS_PUBLISHED, LOSSES), "order_survives") == ["holds"]
    assert verdicts(run_with({**AS_PUBLISHED, (100, 1): 8.5}, LOSSES), "order_survives") == ["does not hold"]


@pytest.mark.parametrize(
    ("name", "rows", "compared"),
    [
        ("own_is_largest", run_with({**AS_PUBLISHED, (100, 10): 7.6}, LOSSES), [(2, 4)]),
        ("more_data_generalizes", run_with(AS_PUBLISHED, {**LOSSES, 100: 2.5}), [(0, 1, 3)]),
        ("volume_falls_with_size", run_with({**AS_PUBLISHED, (100, 100): 7.6}, LOSSES), [(0, 2, 5)]),
        ("minima_end", run_with({**AS_PUBLISHED, (10, 10): 5.5}, LOSSES), [(1, 2)]),
        ("bad_data_shrinks", poisoned([5.0, 4.0, 6.0]), [(0, 2)]),
        ("sam_is_larger", varied({"AdamW": [5.0, 5.0], "SAM": [6.0, 4.0]}, {"SAM": 0.5}, {}), [(1, 3)]),
        ("volume_falls_while_accuracy_rises", varied({"1": [5.0], "2": [6.0]}, {}, {}), [(0, 1)]),
        ("variation_matters", varied({"a": [5.0, 9.0], "b": [5.5, 9.5]}, {}, {}), [(0, 1, 2, 3)]),
        ("order_survives", run_with({**AS_PUBLISHED, (100, 1): 8.5}, LOSSES), [(0, 1, 3)]),
    ],
)
def test_a_counterexample_names_the_rows_that_it_compares(
    name: str, rows: pd.DataFrame, compared: list[tuple[int, ...]]
) -> None:
    (claim,) = judge(rows, [name])
    assert [found.rows for found in claim.counterexamples] == compared
    assert all(found in claim.evidence for found in claim.counterexamples)


def test_every_claim_is_tested_here() -> None:
    assert set(CLAIMS) == {
        *SCALING,
        "bad_data_shrinks",
        "sam_is_larger",
        "volume_falls_while_accuracy_rises",
        "variation_matters",
        "order_survives",
    }


def test_networks_that_never_reach_the_cutoff_say_nothing() -> None:
    rows = run_with(dict.fromkeys(AS_PUBLISHED, NO_VOLUME), LOSSES)
    assert verdicts(rows, *SCALING) == ["not measurable"] * 4
