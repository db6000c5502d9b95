"""In which order proofs read batches of any module's examples."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from basinvol.backends.pytorch.proof_order import ProofOrder, classes_of
from basinvol.inputs.fields import Fields

STOP, SIZE, CLASSES = 1500, 16, 5


def batches_until(order: ProofOrder, losses: Tensor, share: float) -> list[Tensor]:
    """The batches that are read until they hold this share of all losses."""
    read, proof = [], order.proof()
    for chosen in proof:
        for batch in chosen:
            read.append(batch)
            if float(losses[torch.cat(read)].sum()) > share * float(losses[:STOP].sum()):
                return read
        proof.tell([float(losses[batch].sum()) for batch in chosen])
    return read


@pytest.mark.parametrize("size", [1, 16, 700, 2000])
@pytest.mark.parametrize("has_classes", [False, True])
def test_every_example_is_read_once(size: int, has_classes: bool) -> None:
    losses = torch.rand(3, 2000, dtype=torch.float64)
    order = ProofOrder(losses, torch.arange(2000) % CLASSES if has_classes else None, STOP, size)
    batches = batches_until(order, losses[0], 2.0)
    assert sorted(torch.cat(batches).tolist()) == list(range(STOP))
    assert order.num_units == STOP
    assert max(map(len, batches)) <= size


def test_a_proof_may_end_among_the_batches_it_chose() -> None:
    losses = torch.rand(1, STOP, dtype=torch.float64)
    order = ProofOrder(losses, None, STOP, SIZE)
    for _ in range(2):  # the way of one proof leaves the next one's as it was
        assert len(batches_until(order, losses[0], 0.001)) == 1


def test_before_anything_was_learned_the_order_is_that_of_the_data() -> None:
    order = ProofOrder(torch.zeros(1, STOP, dtype=torch.float64), None, STOP, SIZE)
    assert torch.equal(torch.cat(batches_until(order, torch.ones(STOP), 2.0)), torch.arange(STOP))


def test_what_a_ray_is_bad_for_comes_first() -> None:
    classes, known = torch.arange(STOP) % CLASSES, torch.rand(4, STOP, dtype=torch.float64)
    losses = known.mean(dim=0) * torch.where(classes == 3, 4.0, 0.25)
    alone, by_class = (batches_until(ProofOrder(known, c, STOP, SIZE), losses, 0.6) for c in (None, classes))
    assert len(by_class) < 0.5 * len(alone)


def test_losses_that_are_not_finite_come_first() -> None:
    losses = torch.rand(1, STOP, dtype=torch.float64)
    losses[0, [7, 700]] = torch.tensor([torch.inf, torch.nan], dtype=torch.float64)
    first = next(itertools.chain.from_iterable(ProofOrder(losses, None, STOP, SIZE).proof()))
    assert {7, 700} <= set(first.tolist())


def test_classes_are_targets_of_one_whole_number() -> None:
    assert classes_of(torch.tensor([3, -100, 3, 8])).tolist() == [1, 0, 1, 2]
    assert classes_of(torch.tensor([[True], [False]])).tolist() == [1, 0]
    fields = {"labels": torch.tensor([5, 2]), "input_ids": torch.zeros(2, 9, dtype=torch.int64)}
    assert classes_of(Fields(fields, is_named=True)).tolist() == [1, 0]


@pytest.mark.parametrize(
    "targets",
    [torch.zeros(4), torch.zeros(4, 2, dtype=torch.int64), Fields({"label": torch.zeros(4, dtype=torch.int64)}, True)],
    ids=["numbers", "sequences", "another name"],
)
def test_other_targets_have_no_classes(targets: Tensor | Fields) -> None:
    assert classes_of(targets) is None
