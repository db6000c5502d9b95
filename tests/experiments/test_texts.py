"""Texts by character: how they are read and cut into windows, and the transformer that is trained on them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basinvol.estimators.paper import published
from basinvol.experiments.data import examples, files
from basinvol.experiments.data.examples import load
from basinvol.experiments.data.texts import read_text
from basinvol.experiments.describe.description import Experiment, Training, Transformer
from basinvol.experiments.describe.families import describe
from basinvol.experiments.records.run_directory import RunDirectory
from basinvol.experiments.report.report import read_volumes, write_report
from basinvol.experiments.run.execution import Execution
from basinvol.experiments.run.measuring import Measurement
from basinvol.experiments.run.sweep import Sweep
from basinvol.experiments.run.training import accuracy, build_network, loss_function, per_example_losses, train
from basinvol.rays import SearchOptions

SMOKE, PAPER = describe("nanogpt-data-scaling", "smoke"), describe("nanogpt-data-scaling", "paper")
PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))


def numbered(monkeypatch: pytest.MonkeyPatch, length: int = 1000, **changes: object) -> Experiment:
    """An experiment on a text in which every character is its own place."""
    monkeypatch.setattr(examples, "read_text", lambda *_: torch.arange(length))
    network = dataclasses.replace(SMOKE.network, outputs=length)
    return dataclasses.replace(SMOKE, network=network, **changes)


def test_the_help_pages_are_read_letter_by_letter() -> None:
    text = "".join(PRINTABLE[code] for code in read_text("python-help", None).tolist())
    assert 'The "assert" statement\n**********************\n' in text
    assert len(text) > 400_000


def test_characters_are_numbered_in_the_order_of_their_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(files.CHECKSUMS, "shakespeare", {})
    (tmp_path / "input.txt").write_text("cab\nb", encoding="utf-8")
    assert read_text("shakespeare", tmp_path).tolist() == [3, 1, 2, 0, 2]


def test_every_target_is_the_character_after_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    split = load(numbered(monkeypatch), 10)
    assert split.inputs.shape == (70, 16)
    places = split.inputs[:, :1] + torch.arange(16)
    for inputs, targets in ((split.inputs, split.targets), (split.test_inputs, split.test_targets)):
        assert torch.equal(targets, inputs + 1)
    assert torch.equal(split.inputs, places)


def test_test_windows_lie_in_the_last_tenth_and_no_training_window_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = numbered(monkeypatch, levels=(0, 834), data=dataclasses.replace(SMOKE.data, num_test=50))
    first, second = load(experiment, 10), load(experiment, 11)
    assert sorted(first.inputs[:, 0].tolist()) == list(range(884))  # every window that ends before place 900
    assert int(first.targets.max()) == 899
    assert int(first.test_inputs.min()) == 900
    assert int(first.test_targets.max()) == 999
    assert torch.equal(first.test_inputs, second.test_inputs)
    assert not torch.equal(first.inputs, second.inputs)
    with pytest.raises(ValueError, match="needs 885 training windows, the text of python-help has 884; give smaller"):
        load(dataclasses.replace(experiment, levels=(0, 835)), 10)


def test_windows_of_a_smaller_level_are_the_first_of_a_larger_one() -> None:
    few, many = load(SMOKE, 10), load(dataclasses.replace(SMOKE, levels=(0, 300)), 10)
    assert torch.equal(few.inputs, many.inputs[: len(few.inputs)])
    assert few.fingerprint() == load(SMOKE, 10).fingerprint() != load(SMOKE, 11).fingerprint()


def test_a_text_that_is_missing_or_not_the_published_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shakespeare cannot be found: pass --data-dir .*`input\.txt`.* --preset sma"):
        load(PAPER, 10)
    with pytest.raises(ValueError, match=r"has no input\.txt, which shakespeare needs"):
        load(PAPER, 10, tmp_path)
    (tmp_path / "input.txt").write_text("First Citizen:\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"input\.txt is not the published file: its MD5 is"):
        load(PAPER, 10, tmp_path)


def test_a_text_of_more_characters_than_the_network_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = numbered(monkeypatch)
    narrow = dataclasses.replace(experiment, network=dataclasses.replace(experiment.network, outputs=999))
    with pytest.raises(
        ValueError, match="has a network of 999 different characters, and the text of python-help has 1"
    ):
        load(narrow, 10)


@pytest.fixture
def small_network() -> tuple[Transformer, nn.Module]:
    description = Transformer(context=12, layers=3, heads=4, width=32, outputs=17)
    network = build_network(description, model_seed=3)
    with torch.no_grad():
        for p in network.parameters():  # far from where attention is even and norms do nothing
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())), alpha=0.1)
    return description, network


def characters(count: int, description: Transformer) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, description.outputs, (count, description.context), generator=generator)


def test_blocks_are_those_of_torch(small_network: tuple[Transformer, nn.Module]) -> None:
    """Torch's encoder layer under a causal mask is another implementation of the same block."""
    description, network = small_network
    weights, width = network.state_dict(), description.width
    x = weights["character_embedding.weight"][characters(5, description)] + weights["position_embedding.weight"]
    mask = nn.Transformer.generate_square_subsequent_mask(description.context)
    names = {
        "self_attn.in_proj_weight": "query_key_value",
        "self_attn.out_proj.weight": "attention_output",
        "linear1.weight": "mlp_hidden",
        "linear2.weight": "mlp_output",
        "norm1.weight": "attention_norm",
        "norm2.weight": "mlp_norm",
    }
    for number in range(description.layers):
        layer = nn.TransformerEncoderLayer(
            width, description.heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True, bias=False
        )
        layer.load_state_dict({theirs: weights[f"blocks.{number}.{ours}.weight"] for theirs, ours in names.items()})
        x = layer(x, src_mask=mask, is_causal=True)
    logits = F.layer_norm(x, (width,), weights["final_norm.weight"]) @ weights["character_embedding.weight"].T
    torch.testing.assert_close(network(characters(5, description)).transpose(1, 2), logits, rtol=1e-4, atol=1e-4)


def test_a_prediction_depends_on_its_character_and_those_before_and_on_no_later_one(
    small_network: tuple[Transformer, nn.Module],
) -> None:
    description, network = small_network
    before = characters(1, description)
    for place in range(description.context):
        after = before.clone()
        after[0, place] = (after[0, place] + 1) % description.outputs
        with torch.no_grad():
            moved = (network(after) - network(before)).abs().amax(dim=(0, 1))
        assert float(moved[:place].sum()) < 1e-5
        assert float(moved[place:].min()) > 1e-3


def test_a_new_network_knows_nothing() -> None:
    split, network = load(SMOKE, 10), build_network(SMOKE.network, 0)
    loss = float(per_example_losses(network, SMOKE.loss, split.inputs, split.targets).mean())
    assert loss == pytest.approx(math.log(SMOKE.network.outputs), abs=0.05)


def test_the_losses_of_windows_average_to_the_loss_that_is_trained() -> None:
    split, network = load(SMOKE, 10), build_network(SMOKE.network, 0)
    losses = per_example_losses(network, SMOKE.loss, split.inputs, split.targets)
    assert losses.shape == (70,)  # in several chunks
    with torch.no_grad():
        logits = network(split.inputs)
        assert float(losses.mean()) == pytest.approx(float(loss_function(SMOKE.loss)(logits, split.targets)), rel=1e-6)
        probabilities = logits.double().softmax(dim=1).gather(1, split.targets[:, None]).squeeze(1)
    torch.testing.assert_close(losses, -probabilities.log().mean(dim=1), rtol=1e-5, atol=0)


def test_accuracy_counts_every_position() -> None:
    inputs = torch.randint(0, 7, (200, 5), generator=torch.Generator().manual_seed(0))
    targets = inputs.clone()
    targets[:30, :2] = (targets[:30, :2] + 1) % 7

    class Repeats(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.one_hot(x, 7).float().transpose(1, 2)

    assert accuracy(Repeats(), inputs, targets) == pytest.approx(1 - 60 / 1000)


def test_training_has_the_betas_and_the_weight_decay_that_it_is_told() -> None:
    split, network, reference = load(SMOKE, 10), build_network(SMOKE.network, 0), build_network(SMOKE.network, 0)
    inputs, targets = split.inputs[:20], split.targets[:20]
    train(network, F.cross_entropy, inputs, targets, dataclasses.replace(PAPER.training, epochs=5))
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(reference(inputs), targets).backward()
        optimizer.step()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert Training().betas == (0.9, 0.999)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("mnist-data-scaling", np.linspace(0, 1, 100) ** 2),
        ("nanogpt-data-scaling", 0.05 * np.linspace(0, 1, 25) ** 2),
    ],
)
def test_the_published_method_walks_the_published_grid(name: str, grid: np.ndarray, tmp_path: Path) -> None:
    options = published(SearchOptions(), *describe(name, "paper").grid)
    np.testing.assert_allclose(options.grid, grid[1:], rtol=1e-12)
    experiment = dataclasses.replace(describe(name, "smoke"), method="paper")
    network = build_network(experiment.network, 0)
    measurement = Measurement(experiment, RunDirectory(tmp_path), Execution(), "model", network, load(experiment, 10))
    assert measurement.solver(experiment.cutoffs).problem.settings.grid == options.grid


def test_the_smoke_run_is_measured_by_the_native_engine(smoke_run: Callable[[str], Path]) -> None:
    volumes = read_volumes(smoke_run("nanogpt-data-scaling"))
    assert set(volumes["backend"]) == {"native"}
    assert volumes["test_accuracy"].between(0.1, 1.0).all()


@pytest.mark.slow
def test_the_published_method_runs_on_texts_too(tmp_path: Path) -> None:
    Sweep(dataclasses.replace(SMOKE, method="paper"), tmp_path).run()
    assert len(read_volumes(tmp_path)) == 4
    assert "the order breaks at 50 windows" in write_report(tmp_path).read_text()


def test_the_paper_preset_is_the_published_protocol() -> None:
    assert PAPER.landscape_sizes == (50, 250, 1000, 5000, 20000)
    assert PAPER.network == Transformer(context=256, layers=6, heads=6, width=384, outputs=65)
    assert PAPER.training == Training(epochs=800, batch_size=64, weight_decay=0.1, betas=(0.9, 0.95))
    assert PAPER.cutoffs == (0.5,)
    assert PAPER.num_directions == 50
