"""Directions without an end are found where they were planted, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import ground_truth

pytestmark = pytest.mark.usefixtures("rays_together")


def unbounded(model: nn.Module, data: tuple[Tensor, Tensor], loss_fn=F.mse_loss, cutoff: float = 0.05, **options):
    est = bv.estimate_volume(model, loss_fn, data, cutoff, 20, on_censored="bound", **options)
    return est.diagnostics.unbounded


def fitted(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Data on which the model has loss 0 and no margin that could grow."""
    return inputs, model(inputs).detach()


def test_network_in_general_position_has_only_the_scaling_of_its_hidden_units(make_mlp) -> None:
    model = make_mlp([4, 6, 2])
    (sentence,) = unbounded(model, fitted(model, torch.randn(40, 4)))
    assert sentence.startswith("6 units between 0.weight and 2.weight can be scaled by (a, 1/a)")


def test_activation_that_saturates_has_no_scaling(make_mlp) -> None:
    model = make_mlp([4, 6, 2], "tanh")
    assert unbounded(model, fitted(model, torch.randn(40, 4))) == ()


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_weights_of_an_input_that_is_always_zero_have_no_effect(make_mlp, backend: str) -> None:
    model, inputs = make_mlp([4, 6, 2], "tanh"), torch.randn(40, 4)
    inputs[:, 2] = 0.0
    sentences = unbounded(model, fitted(model, inputs), backend=backend)
    assert sentences == ("6 of 24 parameters of 0.weight have no effect on the loss",)


def test_weights_of_a_constant_input_trade_against_the_bias(make_mlp) -> None:
    model, inputs = make_mlp([4, 6, 2], "tanh"), torch.randn(40, 4)
    inputs[:, 2] = 1.5
    (sentence,) = unbounded(model, fitted(model, inputs))
    assert sentence == "the inputs of 0 span 4 of 5 dimensions, so that 6 directions change no output"


def test_fewer_examples_than_hidden_units_leave_the_next_layer_free_at_the_center(make_mlp) -> None:
    model = make_mlp([4, 9, 2], "tanh")
    (sentence,) = unbounded(model, fitted(model, torch.randn(8, 4)))
    assert sentence == "the inputs of 2 span 8 of 10 dimensions, so that 4 directions change no output at the center"


def test_unit_that_no_example_reaches_leaves_its_outgoing_weights_without_effect(make_mlp) -> None:
    model = make_mlp([4, 6, 2])
    with torch.no_grad():
        model[0].bias[3] = -1e4
    sentences = unbounded(model, fitted(model, torch.randn(40, 4)), scaling="none")
    assert "2 of 12 parameters of 2.weight have no effect on the loss" in sentences


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6, bias=False), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(F.layer_norm(self.first(x), (6,), eps=0.0)))


def test_weights_before_a_normalization_can_be_scaled() -> None:
    model = Normalized()
    sentences = unbounded(model, fitted(model, torch.randn(40, 4)))
    assert sentences == ("first.weight can be scaled by any positive factor",)


def test_last_layer_of_a_classifier_that_separates_its_examples_can_grow(trained, blobs) -> None:
    sentences = unbounded(trained, blobs, F.cross_entropy, 0.1)
    assert "4.weight can grow a thousandfold inside the basin" in sentences


@pytest.mark.slow
def test_trustworthy_weights_of_an_infinite_volume_are_called_censored(body, body_loss, one_example) -> None:
    """One parameter of three changes nothing, and 40 rays look well-behaved."""
    case = ground_truth.with_dead_parameters(3, 1)
    verdicts = {}
    for probe in (True, False):
        est = bv.estimate_volume(*case.task(), cutoff=1.0, num_directions=1000, scaling="none", seed=5, probe=probe)
        verdicts[probe] = est.diagnostics
    assert verdicts[True].verdict is not bv.Verdict.TRUSTWORTHY
    assert verdicts[True].unbounded == ("1 of 3 parameters of w have no effect on the loss",)
    assert verdicts[False].unbounded == ()
    assert verdicts[False].num_probes == 0


def test_where_an_evaluation_is_dear_probes_run_only_before_a_number_is_trusted(
    trained, blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("basinvol.probing.policy._CHEAP_PRODUCTS", 0)
    bound = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 10)
    assert bound.diagnostics.verdict is bv.Verdict.LOWER_BOUND
    assert bound.diagnostics.num_probes == 0
    assert "none for probes" in str(bound)
    case = ground_truth.ball(3)
    trusted = bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=50, scaling="none")
    assert trusted.diagnostics.verdict is bv.Verdict.TRUSTWORTHY
    assert trusted.diagnostics.num_probes > 0


def test_probing_leaves_model_and_random_state_alone(trained, blobs) -> None:
    before, state = [p.clone() for p in trained.parameters()], torch.get_rng_state()
    bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 10, probe_rays=5)
    assert all(torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in trained.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m._forward_pre_hooks for m in trained.modules())


def test_second_method_is_run_and_its_number_shown(body, body_loss, one_example) -> None:
    model = body(lambda w: w.square().sum(), 4)
    est = bv.estimate_volume(model, body_loss, one_example, 1.0, 30, scaling="none", check="paper", probe=False)
    assert est.diagnostics.agreement.startswith("method paper gives")
    assert est.diagnostics.num_probes == 0
    assert est.diagnostics.num_checks > 0
    assert est.num_evaluations == est.diagnostics.num_checks + int(est.radii.num_evaluations.sum())
