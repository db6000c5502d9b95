from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import basinvol as bv


@pytest.fixture(scope="module")
def regression(make_mlp) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A float64 network and data, so that sums can be compared to 1e-14."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(37, 3, dtype=torch.float64, generator=generator)
    return make_mlp([3, 6, 2], "tanh").double(), (inputs, torch.randn(37, 2, dtype=torch.float64, generator=generator))


@given(levels=st.sets(st.integers(1, 37), min_size=1, max_size=5), batch_size=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_levels_are_mean_losses_of_prefixes_whatever_the_batch_size(regression, levels, batch_size):
    model, (inputs, targets) = regression
    levels = sorted(levels)
    landscape = bv.Landscape(model, F.mse_loss, (inputs, targets), levels=levels, batch_size=batch_size)
    exact = torch.stack([F.mse_loss(model(inputs[:n]), targets[:n]).detach() for n in levels])
    assert torch.allclose(landscape.losses(), exact, rtol=1e-13, atol=0.0)
    assert torch.equal(landscape.losses(num_levels=1), landscape.losses()[:1]), "a prefix costs its own examples only"
    assert landscape.num_examples == levels[-1]


def test_data_loader_and_list_of_batches_are_the_tensors_they_hold(regression):
    model, (inputs, targets) = regression
    expected = bv.Landscape(model, F.mse_loss, (inputs, targets)).losses()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=10)
    batches = [(inputs[:1], targets[:1]), (inputs[1:20], targets[1:20]), (inputs[20:], targets[20:])]
    two_batches = [(inputs[:8], targets[:8]), (inputs[8:], targets[8:])]
    for data in (loader, batches, two_batches, iter(batches)):
        assert torch.equal(bv.Landscape(model, F.mse_loss, data).losses(), expected)


def test_parameters_replace_the_models_own_by_name(regression):
    model, (inputs, targets) = regression
    landscape = bv.Landscape(model, F.mse_loss, (inputs, targets))
    bias = torch.tensor([3.0, -1.0], dtype=torch.float64)
    exact = F.mse_loss(model(inputs) - model[2].bias + bias, targets).detach()
    assert float(landscape.losses({"2.bias": bias})[0]) == pytest.approx(float(exact), rel=1e-13)
    assert float(landscape.losses()[0]) == pytest.approx(float(F.mse_loss(model(inputs), targets).detach()), rel=1e-13)


def test_tied_weights_move_together():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).double()
    model[1].weight = model[0].weight
    inputs = torch.randn(9, 4, dtype=torch.float64)
    weight = torch.randn(4, 4, dtype=torch.float64)
    landscape = bv.Landscape(model, F.mse_loss, (inputs, torch.zeros_like(inputs)))
    exact = float((inputs @ weight.T @ weight.T).square().mean())
    assert float(landscape.losses({"0.weight": weight})[0]) == pytest.approx(exact, rel=1e-13)


def test_small_terms_are_summed_in_float64():
    class Parameterized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.w * x

    # In float32, 2^24 + 1 = 2^24: the ones after the first example would vanish.
    inputs = torch.ones(33)
    inputs[0] = 2.0**24
    landscape = bv.Landscape(Parameterized(), lambda out, _: out.mean(), (inputs, inputs), batch_size=1)
    assert float(landscape.losses()[0]) == (2.0**24 + 32) / 33


def test_batch_norm_and_dropout_modules_are_measured_in_eval_mode():
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    inputs, targets = torch.randn(20, 3), torch.randn(20, 2)
    model(inputs)  # moves the running statistics
    expected = F.mse_loss(model.eval()(inputs), targets).detach()
    landscape = bv.Landscape(model.train(), F.mse_loss, (inputs, targets))
    assert float(landscape.losses()[0]) == pytest.approx(float(expected), rel=1e-6)
    assert model.training


class Noisy(nn.Module):
    """Draws where eval mode cannot switch it off."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "functional dropout":
            return F.dropout(self.linear(x), 0.5, training=True)
        return self.linear(x) + torch.randn(2)


@pytest.mark.parametrize("kind", ["functional dropout", "sampling"])
def test_loss_that_differs_between_two_evaluations_is_refused(kind):
    data = (torch.randn(20, 3), torch.randn(20, 2))
    with pytest.raises(ValueError, match=r"not deterministic: two evaluations .* Look for functional dropout"):
        bv.Landscape(Noisy(kind), F.mse_loss, data)


class StubbornDropout(nn.Dropout):
    """Drops in eval mode too, as in Monte-Carlo dropout."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, training=True)


def test_refusal_names_the_dropout_layer():
    model = nn.Sequential(nn.Linear(3, 8), StubbornDropout(0.5), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=r"not deterministic.*Suspects: dropout in '1'"):
        bv.Landscape(model, F.mse_loss, (torch.randn(20, 3), torch.randn(20, 2)))


def test_batch_statistics_are_named_where_they_make_the_loss_depend_on_the_batches():
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=r"not a mean over examples.*Suspects: batch statistics in '1'"):
        bv.Landscape(model, F.mse_loss, (torch.randn(20, 3), torch.randn(20, 2)), levels=[10, 20])


def test_landscape_keeps_its_data_when_the_caller_changes_the_levels():
    model, data = nn.Linear(3, 2), (torch.randn(20, 3), torch.randn(20, 2))
    assert bv.Landscape(model, F.mse_loss, data, levels=[5, 12]).inputs.shape == (12, 3)
