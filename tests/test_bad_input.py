"""Every wrong argument is answered with a sentence that names it, says what came and what to do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(20, 4), torch.arange(20) % 3


@pytest.fixture
def model(make_mlp) -> nn.Module:
    return make_mlp([4, 5, 3])


def estimate(model: nn.Module, data, loss_fn=F.cross_entropy, cutoff: float = 5.0, num_directions: int = 2, **options):
    return bv.estimate_volume(model, loss_fn, data, cutoff, num_directions, **options)


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_cutoff_at_or_below_the_centers_loss(model, data, backend, share):
    directions = bv.Directions(bv.ParameterSpace.of(model), 1)
    center = bv.RaySolver(bv.Landscape(model, F.cross_entropy, data), directions, [9.0], backend=backend).center_losses
    cutoff = share * float(center[0])
    with pytest.raises(ValueError, match=r"`cutoff` must be above the loss at the center, got cutoff=\S+ and loss=\S+"):
        estimate(model, data, cutoff=cutoff, backend=backend)


@pytest.mark.parametrize("cutoff", [math.nan, math.inf, -math.inf])
def test_cutoff_that_is_not_a_number(model, data, cutoff):
    with pytest.raises(ValueError, match="`cutoffs` must be different finite losses"):
        estimate(model, data, cutoff=cutoff)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite(model, data, bad):
    with torch.no_grad():
        model[2].weight[1, 1] = bad
    with pytest.raises(ValueError, match=r"parameter '2\.weight' holds NaN or infinity: a diverged network"):
        estimate(model, data)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_inputs_that_are_not_finite(model, data, bad):
    data[0][7, 2] = data[0][11, 0] = bad
    with pytest.raises(ValueError, match=r"the inputs in `data` hold NaN or infinity in 2 of 20 examples.*example 7;"):
        estimate(model, data)


def test_targets_that_are_not_finite(model, data):
    targets = torch.zeros(20, 3)
    targets[19, 0] = math.nan
    with pytest.raises(ValueError, match=r"the targets in `data` hold NaN or infinity in 1 of 20 examples"):
        estimate(model, (data[0], targets), F.mse_loss)


@pytest.mark.parametrize(
    "empty", [(torch.empty(0, 4), torch.empty(0, dtype=torch.int64)), []], ids=["tensors", "loader"]
)
def test_no_examples(model, empty):
    with pytest.raises(ValueError, match="`data` is empty: a loss needs at least one example"):
        estimate(model, empty)


def test_more_inputs_than_targets(model, data):
    with pytest.raises(ValueError, match=r"as many targets as inputs, got inputs of shape \[20, 4\] .* \[19\]"):
        estimate(model, (data[0], data[1][:-1]))


def test_batches_without_targets(model, data):
    with pytest.raises(ValueError, match=r"`data` must be \(inputs, targets\) tensors or give batches of two tensors"):
        estimate(model, [data[0][:5], data[0][5:]][:1])


@pytest.mark.parametrize(("first", "seen"), [(3, "0 to 3"), (-1, "-1 to 2")])
@pytest.mark.parametrize("backend", ["auto", "native", "torch", "reference"])
def test_labels_that_are_not_classes(model, data, first, seen, backend):
    data[1][0] = first
    with pytest.raises(ValueError, match=f"labels between 0 and 2, the model's outputs, got labels from {seen}"):
        estimate(model, data, backend=backend)


def test_loss_that_returns_a_vector(model, data):
    with pytest.raises(
        ValueError, match=r"`loss_fn` must return the mean loss .* as a scalar tensor, got shape \[20\]"
    ):
        estimate(model, data, nn.CrossEntropyLoss(reduction="none"))


def test_loss_that_returns_a_float(model, data):
    with pytest.raises(ValueError, match="as a scalar tensor, got a float"):
        estimate(model, data, lambda outputs, targets: 0.25)


def test_loss_that_sums_over_examples_on_levels(model, data):
    with pytest.raises(
        ValueError, match=r"not a mean over examples: `loss_fn` has reduction='sum'; use reduction='mean'"
    ):
        bv.Landscape(model, nn.CrossEntropyLoss(reduction="sum"), data, levels=[10, 20])


def test_plain_function_that_sums_over_examples_on_levels(model, data):
    def summed(outputs: Tensor, targets: Tensor) -> Tensor:
        return 1.0 * F.cross_entropy(outputs, targets, reduction="sum")  # not a known loss alone

    with pytest.raises(ValueError, match=r'the loss is not a mean over examples: .*Use reduction="mean"'):
        bv.Landscape(model, summed, data, levels=[10, 20])


def test_loss_that_sums_over_examples_in_one_batch(model, data):
    with pytest.raises(ValueError, match="the loss is not a mean over examples: `loss_fn` has reduction='sum'"):
        estimate(model, data, nn.CrossEntropyLoss(reduction="sum"), cutoff=100.0)


def test_model_without_parameters(data):
    with pytest.raises(ValueError, match="the model has no parameter to perturb: 0 floating-point parameters"):
        estimate(nn.Flatten(), data)


def test_everything_excluded_or_frozen(model, data):
    with pytest.raises(ValueError, match=r"no parameter to perturb: 4 .* exclude='\*'"):
        estimate(model, data, exclude="*")
    model.requires_grad_(False)
    with pytest.raises(ValueError, match=r"no parameter to perturb: .*trainable_only=True"):
        estimate(model, data, trainable_only=True)


@pytest.mark.parametrize("count", [0, -1, 2**32 + 1])
def test_number_of_directions_out_of_range(model, data, count):
    with pytest.raises(ValueError, match=rf"`num_directions` must be between 1 and 2\^32, got {count}"):
        estimate(model, data, num_directions=count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "cuda-graphs"}, "`backend` must be 'auto' or one of 'native', .*'reference', got 'cuda-graphs'"),
        ({"scaling": "layer"}, "`scaling` must be one of 'filter', 'none', got 'layer'"),
        ({"search": "newton"}, "`search` must be one of 'interpolate', 'bisect', 'grid', got 'newton'"),
        ({"method": "ais"}, "`method` must be one of 'star', 'paper', .*'hit-and-run', got 'ais'"),
        ({"resolve": "most"}, "`resolve` must be .*, got 'most'"),
        ({"on_censored": "ignore"}, "`on_censored` must be one of 'raise', 'drop', 'bound', got 'ignore'"),
        ({"rtol": 0.0}, "`rtol` must be between 1e-12 and 0.5, got 0.0"),
        ({"rtol": math.nan}, "`rtol` must be between 1e-12 and 0.5, got nan"),
        ({"radius_max": 0.0}, "`radius_max` must be positive, got 0.0"),
        ({"radius_max": math.nan}, "`radius_max` must be positive, got nan"),
        ({"max_steps": 0}, "`max_steps` must be at least 1, got 0"),
        ({"num_threads": 0}, "`num_threads` must be at least 1, got 0"),
        ({"seed": -1}, "`seed` must be between 0 and"),
        ({"include": "head.*"}, "`include` has the glob"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_unknown_or_impossible_option(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        estimate(model, data, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_device_where_there_is_none(model, data):
    with pytest.raises(ValueError, match="`device` is 'cuda:0', but no CUDA device is available; use device='cpu'"):
        estimate(model, data, device="cuda:0")


def test_native_backend_on_a_network_that_it_does_not_compute(data):
    model = nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.ConvTranspose2d(1, 3, 1), nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(
        bv.BackendUnavailable,
        match=r"'native' cannot be used: layer '0' \(Unflatten\).* as a program aten.conv_transpose2d.*backend='auto'",
    ):
        estimate(model, data, backend="native")


class FunctionalDropout(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5, training=True)


def test_dropout_that_eval_mode_does_not_switch_off(data):
    with pytest.raises(ValueError, match=r"the loss is not deterministic: .*functional dropout"):
        estimate(FunctionalDropout(4, 3), data)


@pytest.mark.parametrize("levels", [[], [0, 5], [5, 5], [10, 5], [5, 21], [-1]])
def test_levels_that_do_not_increase_within_the_data(model, data, levels):
    with pytest.raises(ValueError, match="`levels` must be increasing numbers of examples between 1 and 20, got "):
        bv.Landscape(model, F.cross_entropy, data, levels=levels)


@pytest.mark.parametrize("cutoffs", [[], [0.1, 0.1], [0.1, math.nan]])
def test_cutoffs_that_are_missing_repeated_or_not_numbers(model, data, cutoffs):
    directions = bv.Directions(bv.ParameterSpace.of(model), 1)
    with pytest.raises(ValueError, match="`cutoffs` must be different finite losses, at least one, got "):
        bv.find_radii(bv.Landscape(model, F.cross_entropy, data), directions, cutoffs)


@pytest.mark.parametrize("grid", [[], [0.0, 1.0], [1.0, 0.5], [1.0, math.inf]])
def test_grid_that_does_not_increase_from_the_center(model, data, grid):
    directions = bv.Directions(bv.ParameterSpace.of(model), 1)
    with pytest.raises(ValueError, match="`grid` must be increasing positive coefficients"):
        bv.find_radii(bv.Landscape(model, F.cross_entropy, data), directions, [5.0], search="grid", grid=grid)


def test_batch_size_of_zero(model, data):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        bv.Landscape(model, F.cross_entropy, data, batch_size=0)


def test_level_or_cutoff_that_was_not_measured(model, data):
    directions = bv.Directions(bv.ParameterSpace.of(model), 1)
    radii = bv.find_radii(bv.Landscape(model, F.cross_entropy, data, levels=[5, 20]), directions, [5.0])
    with pytest.raises(ValueError, match=r"`level` must be one of \[5, 20\], got 7"):
        radii.at(7)
    with pytest.raises(ValueError, match=r"`level` must be one of \[5, 20\]"):
        radii.at()
    with pytest.raises(ValueError, match=r"`cutoff` must be one of \[5\.0\], got 0\.1"):
        radii.at(5, 0.1)
