"""Batches of several tensors: dictionaries as models of Hugging Face take them, and tuples of inputs."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import basinvol as bv

NUM, LENGTH, WORDS = 24, 7, 11
IGNORED = -100


class LanguageModel(nn.Module):
    """Takes its batch by name and returns its loss, as models of `transformers` do.

    Args:
        shift: by how many positions the labels are ahead of the outputs that predict them.
    """

    def __init__(self, shift: int = 1) -> None:
        super().__init__()
        self.shift = shift
        self.embed = nn.Embedding(WORDS, 6)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, WORDS)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, attention_mask: Tensor | None = None) -> Any:
        x = self.embed(input_ids)
        weights = 1.0 if attention_mask is None else attention_mask[..., None].float()
        logits = self.head(torch.tanh(self.mix((x * weights).cumsum(dim=1))))
        loss = None
        if labels is not None:
            ahead, seen = labels[:, self.shift :], logits[:, : LENGTH - self.shift]
            loss = F.cross_entropy(seen.flatten(0, 1), ahead.flatten(), ignore_index=IGNORED)
        return types.SimpleNamespace(loss=loss, logits=logits)


def tokens() -> dict[str, Tensor]:
    """Sentences of different lengths, whose padding does not count."""
    ids = torch.randint(WORDS, (NUM, LENGTH))
    lengths = torch.arange(NUM) % (LENGTH - 2) + 3
    is_padding = torch.arange(LENGTH) >= lengths[:, None]
    return {
        "input_ids": ids,
        "attention_mask": (~is_padding).long(),
        "labels": torch.where(is_padding, IGNORED, ids),
    }


@pytest.mark.parametrize("shift", [0, 1])
def test_a_mean_over_tokens_adds_up_whatever_the_batches(shift: int) -> None:
    """The model's own loss of all sentences at once is the truth."""
    model, batch = LanguageModel(shift), tokens()
    with torch.no_grad():
        whole = float(model(**batch).loss)
    for size in (1, 5, NUM):
        found = bv.Landscape(model, None, batch, batch_size=size).losses()
        assert float(found[-1]) == pytest.approx(whole, rel=1e-5)


def test_levels_are_means_over_the_tokens_of_their_examples() -> None:
    model, batch = LanguageModel(), tokens()
    losses = bv.Landscape(model, None, batch, levels=[5, NUM], batch_size=4).losses()
    with torch.no_grad():
        expected = [float(model(**{name: part[:n] for name, part in batch.items()}).loss) for n in (5, NUM)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_volume_of_a_model_with_a_dictionary_is_that_of_its_loss() -> None:
    model, batch = LanguageModel(), tokens()
    center = float(bv.Landscape(model, None, batch).losses()[0])

    def by_hand(outputs: Any, given: dict[str, Tensor]) -> Tensor:
        assert set(given) == set(batch)
        logits = outputs.logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), given["labels"][:, 1:].flatten(), ignore_index=IGNORED)

    own, other = (
        bv.estimate_volume(model, loss_fn, batch, cutoff=center + 0.1, num_directions=8, probe=False)
        for loss_fn in (None, by_hand)
    )
    assert own.backend == "torch"
    assert "takes a dictionary" in own.backend_reason
    assert own.log_volume == pytest.approx(other.log_volume, rel=1e-6)
    assert (own.radii.value_lower <= center + 0.1).all()


def test_loaders_of_dictionaries_and_arrays_give_the_landscape_of_one_batch() -> None:
    model, batch = LanguageModel(), tokens()
    rows = [{name: part[i] for name, part in batch.items()} for i in range(NUM)]
    expected = bv.Landscape(model, None, batch).losses()
    for data in (DataLoader(rows, batch_size=5), {name: part.numpy() for name, part in batch.items()}):
        assert torch.equal(bv.Landscape(model, None, data).losses(), expected)


def test_several_inputs_are_taken_one_after_the_other() -> None:
    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.linear(first - second)

    model, first, second = Difference(), torch.randn(NUM, 4), torch.randn(NUM, 4)
    targets = torch.randint(2, (NUM,))
    single = bv.estimate_volume(model.linear, F.cross_entropy, (first - second, targets), 2.0, 8, backend="reference")
    double = bv.estimate_volume(model, F.cross_entropy, ((first, second), targets), 2.0, 8)
    assert double.backend == "native"
    assert double.log_volume == pytest.approx(single.log_volume, rel=1e-5)


def test_the_doctor_examines_a_model_with_a_dictionary() -> None:
    from basinvol.probing.doctor import examine

    model, batch = LanguageModel(), tokens()
    report = str(examine(model, None, batch, cutoff=5.0, num_directions=8))
    assert "examples in another order" in report


BAD: list[tuple[Any, str]] = [
    ({"input_ids": torch.zeros(3, LENGTH).long()}, "`loss_fn` is None, so the model must return its loss"),
    ({"words": torch.zeros(3, LENGTH).long()}, "`model` fails on the inputs in `data`, a dictionary: 'words'"),
    ({"input_ids": torch.zeros(3, 4), "labels": torch.zeros(2, 4)}, "must hold as many targets as inputs"),
    ({"input_ids": [1, 2, 3]}, "`data` must be"),
    ({}, "`data` must be"),
    ([{"a": torch.zeros(2, 3)}, {"b": torch.zeros(2, 3)}], "their fields differ"),
    ([{"a": torch.zeros(2, 3)}, {"a": torch.zeros(2, 4)}], "pad all examples to one length"),
    ([{"a": torch.zeros(2, 3)}, (torch.zeros(2, 3), torch.zeros(2))], "some are dictionaries, and others are not"),
    ({"input_ids": np.full((3, 4), np.nan)}, "the inputs 'input_ids' in `data` hold NaN"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_cannot_be_a_batch_is_refused_in_one_sentence(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        bv.Landscape(LanguageModel(), None, data)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_no_mean_over_examples_or_tokens_is_refused() -> None:
    def summed(outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        return outputs.logits.square().sum()

    with pytest.raises(ValueError, match="the loss is not a mean over examples"):
        bv.Landscape(LanguageModel(), summed, tokens())
