"""Examples in order (base, then pool): what each kind of pool holds, and how examples are scaled."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from basinvol.experiments.data.examples import load
from basinvol.experiments.describe.description import Experiment
from basinvol.experiments.describe.families import describe


def digits(**changes: object) -> Experiment:
    return dataclasses.replace(describe("mnist-data-scaling", "smoke"), base=100, levels=(0, 400), **changes)


def with_pool(pool: str, target_classes: tuple[int, ...] = ()) -> Experiment:
    clean = digits()
    return digits(data=dataclasses.replace(clean.data, pool=pool, target_classes=target_classes))


@pytest.mark.slow
def test_a_poisoned_pool_has_the_inputs_of_a_clean_one_and_every_label_wrong() -> None:
    clean, poisoned = load(digits(), 10), load(with_pool("poisoned"), 10)
    torch.testing.assert_close(poisoned.inputs, clean.inputs, rtol=0, atol=0)
    torch.testing.assert_close(poisoned.targets[:100], clean.targets[:100], rtol=0, atol=0)
    assert bool((poisoned.targets[100:] != clean.targets[100:]).all())
    offsets = (poisoned.targets[100:] - clean.targets[100:]) % 10
    assert sorted(offsets.unique().tolist()) == list(range(1, 10))


def test_a_noise_pool_has_the_mean_and_spread_of_the_base_and_labels_at_random() -> None:
    noise = load(with_pool("noise"), 10)
    base, pool = noise.inputs[:100], noise.inputs[100:]
    error = 5 * float(base.std()) / math.sqrt(pool.numel())  # five standard errors
    assert float(pool.mean()) == pytest.approx(float(base.mean()), abs=error)
    assert float(pool.std()) == pytest.approx(float(base.std()), abs=error)
    counts = torch.bincount(noise.targets[100:], minlength=10)
    assert int(counts.max()) < 40 + 5 * math.sqrt(40)


def test_an_imbalanced_pool_is_nine_tenths_of_the_target_classes_and_nested() -> None:
    pool = load(with_pool("imbalanced", (3, 7)), 10).targets[100:]
    assert int(torch.isin(pool, torch.tensor([3, 7])).sum()) == 360
    half = torch.isin(pool[:200], torch.tensor([3, 7])).double().mean()
    assert float(half) == pytest.approx(0.9, abs=5 * 0.3 / math.sqrt(200))


def test_too_many_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 5000 training examples, packaged-digits has 4000; give smaller `lev"):
        load(dataclasses.replace(digits(), levels=(0, 4900)), 10)
    with pytest.raises(ValueError, match="needs 2700 examples of the target classes"):
        load(dataclasses.replace(with_pool("imbalanced", (1,)), levels=(0, 3000)), 10)


def test_modular_sums_are_right_and_the_test_set_is_apart() -> None:
    split = load(describe("modular-data-scaling", "paper"), 10)
    assert split.inputs.shape == (6586, 194)
    assert split.test_inputs.shape == (2823, 194)
    sums = (split.inputs[:, :97].argmax(1) + split.inputs[:, 97:].argmax(1)) % 97
    assert bool((split.targets.argmax(1) == sums).all())
    pairs = {tuple(row.nonzero().flatten().tolist()) for row in torch.cat([split.inputs, split.test_inputs])}
    assert len(pairs) == 97 * 97


@pytest.mark.parametrize("name", ["cifar10-data-scaling", "svhn-data-scaling", "fashion-data-scaling"])
def test_stand_ins_have_the_shape_of_what_they_stand_for(name: str) -> None:
    small, paper = describe(name, "small"), describe(name, "paper")
    split = load(small, 10)
    assert split.inputs[0].shape == paper.network.inputs
    assert set(split.test_targets.tolist()) == set(range(10))
    assert "stand-in" in small.title


def test_digits_of_the_package_are_normalized_as_published() -> None:
    split = load(describe("mnist-data-scaling", "smoke"), 10)
    assert float(split.inputs.min()) == pytest.approx(-0.1307 / 0.3081, rel=1e-6)
    assert float(split.inputs.max()) == pytest.approx((1 - 0.1307) / 0.3081, rel=1e-6)
    assert split.inputs.dtype == torch.float32
