"""The doctor finds what was planted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basinvol import ground_truth
from basinvol.model.landscape import Landscape
from basinvol.probing.doctor import Report, _backwards, examine


def found(report: Report, topic: str) -> tuple[str, str]:
    """State and sentences of a topic."""
    matching = [finding for finding in report.findings if finding.topic == topic]
    assert matching, f"no finding about {topic}"
    return matching[0].state, " ".join(finding.sentence for finding in matching)


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(40, 4), torch.arange(40) % 3


def test_healthy_network_gets_a_forecast_of_cost_and_verdict(trained, blobs) -> None:
    report = examine(trained, F.cross_entropy, blobs)
    for topic in (
        "dropout",
        "normalization",
        "tied",
        "frozen",
        "determinism",
        "center",
        "noise",
        "scale",
        "rays",
        "cost",
    ):
        assert found(report, topic)[0] == "ok", topic
    assert found(report, "backend")[1].startswith("native")
    state, sentence = found(report, "verdict")
    assert state == "note"
    assert "the plain number will be a lower bound" in sentence
    assert "verdict" in str(report)


def test_round_basin_is_forecast_to_be_enough() -> None:
    case = ground_truth.ball(5)
    assert found(examine(*case.task(), cutoff=case.cutoff, scaling="none"), "verdict")[0] == "ok"


def test_dropout_and_batch_statistics_are_named(data) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 3))
    report = examine(model, F.cross_entropy, data, cutoff=5.0)
    assert found(report, "dropout") == ("note", "2 drop nothing in eval mode, which is what is measured.")
    assert found(report, "normalization") == ("note", "1 use their running statistics, which directions do not move.")
    model[1] = nn.BatchNorm1d(6, track_running_stats=False)
    assert found(examine(model, F.cross_entropy, data, cutoff=5.0), "normalization")[0] == "problem"


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5, training=True)


def test_loss_that_is_not_deterministic_is_a_problem_and_ends_the_examination(data) -> None:
    report = examine(Noisy(4, 3), F.cross_entropy, data, cutoff=5.0)
    assert report.has_problems
    assert report.findings[-1].topic == "loss"
    assert "the loss is not deterministic" in report.findings[-1].sentence


def test_tied_and_frozen_parameters_are_named(data) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model[2].weight = model[0].weight
    model[4].bias.requires_grad_(False)
    report = examine(model, F.cross_entropy, data, cutoff=5.0)
    assert found(report, "tied") == ("note", "2.weight are moved together with their twins.")
    assert found(report, "frozen")[1].startswith("4.bias are perturbed too")


def test_center_above_and_just_below_the_cutoff(trained, blobs) -> None:
    with torch.no_grad():
        loss = float(F.cross_entropy(trained(blobs[0]), blobs[1]))
    below = examine(trained, F.cross_entropy, blobs, cutoff=0.9 * loss)
    assert found(below, "center")[0] == "problem"
    assert below.has_problems
    assert found(examine(trained, F.cross_entropy, blobs, cutoff=1.1 * loss), "center")[0] == "note"


def test_dead_input_is_a_problem_with_a_remedy(make_mlp) -> None:
    model, inputs = make_mlp([4, 6, 2], "tanh"), torch.randn(40, 4)
    inputs[:, 2] = 0.0
    report = examine(model, F.mse_loss, (inputs, model(inputs).detach()))
    assert found(report, "unbounded")[0] == "problem"
    assert "measure='gaussian'" in found(report, "measure")[1]


def test_zero_filter_and_rays_without_end() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight[1] = 0.0
    inputs = torch.randn(20, 3)
    report = examine(model, F.mse_loss, (inputs, model(inputs).detach()))
    assert "0.weight (3)" in found(report, "scale")[1]
    case = ground_truth.half_space(2)
    assert "never leave the basin" in found(examine(*case.task(), cutoff=1.0, scaling="none"), "rays")[1]


def test_noise_is_looked_at_in_batches_that_fit_into_memory(data) -> None:
    seen = []

    class Seeing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    landscape = Landscape(Seeing(4, 3), weighted, data, batch_size=4)
    seen.clear()
    assert _backwards(landscape) == pytest.approx(float(landscape.losses()[-1]), rel=1e-6)
    assert seen[:7] == [6, 6, 6, 6, 6, 6, 4]


def test_hill_on_the_way_out_is_noted(body, body_loss, one_example) -> None:
    def gauge(w: Tensor) -> Tensor:
        r = torch.linalg.vector_norm(w)
        return r + 0.4 * torch.exp(-(((r - 0.25) / 0.1) ** 2))

    report = examine(body(gauge, 3), body_loss, one_example, cutoff=1.0, scaling="none")
    assert found(report, "monotone") == (
        "note",
        "of 16 followed to 5 radii, 16 fall before the crossing and 0 enter again beyond it.",
    )
