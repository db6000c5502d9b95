from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import basinvol as bv


def mixed_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4, bias=False))


def test_space_lists_floating_parameters_in_model_order():
    space = bv.ParameterSpace.of(mixed_model())
    assert space.names == ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight")
    assert space.sizes == (54, 3, 3, 3, 48)
    assert space.offsets == (0, 54, 57, 60, 63)
    assert space.dim == 111


def test_integer_parameters_are_not_perturbed():
    model = nn.Linear(2, 2)
    model.register_parameter("table", nn.Parameter(torch.arange(3), requires_grad=False))
    assert bv.ParameterSpace.of(model).names == ("weight", "bias")


def test_tied_parameters_count_once_under_their_first_name():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    space = bv.ParameterSpace.of(model)
    assert space.names == ("0.weight", "0.bias", "1.bias")
    assert space.dim == 9 + 3 + 3


@given(widths=st.lists(st.integers(1, 9), min_size=2, max_size=5), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_unflatten_inverts_flatten(make_mlp, widths, seed):
    model = make_mlp(widths, seed=seed)
    space = bv.ParameterSpace.of(model)
    named = space.unflatten(space.flatten(model))
    for name, p in model.named_parameters():
        assert torch.equal(named[name], p)
    assert torch.equal(torch.cat([named[name].reshape(-1) for name in space.names]), space.flatten(model))


def test_flat_vector_is_a_copy_and_named_tensors_are_views_of_it():
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    space = bv.ParameterSpace.of(model)
    vector = space.flatten(model)
    named = space.unflatten(vector)
    vector.zero_()
    assert torch.equal(model.weight, before)
    assert not named["weight"].any()


def test_mixed_precision_is_flattened_in_float64_and_restored_by_name():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    space = bv.ParameterSpace.of(model)
    named = space.unflatten(space.flatten(model))
    assert space.dtype == torch.float64
    assert [named[name].dtype for name in space.names] == [torch.float32] * 2 + [torch.float64] * 2
    assert all(torch.equal(named[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"include": "*.weight"}, ("0.weight", "1.weight", "3.weight")),
        ({"include": ["0.*", "3.*"]}, ("0.weight", "0.bias", "3.weight")),
        ({"exclude": "1.*"}, ("0.weight", "0.bias", "3.weight")),
        ({"include": "*.weight", "exclude": ["1.*", "0.*"]}, ("3.weight",)),
        ({"trainable_only": True}, ("0.bias", "1.weight", "1.bias", "3.weight")),
    ],
)
def test_globs_and_frozen_parameters_choose_what_is_perturbed(options, names):
    model = mixed_model()
    model[0].weight.requires_grad_(False)
    assert bv.ParameterSpace.of(model, **options).names == names


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_glob_that_matches_nothing_is_an_error_that_lists_the_names(argument):
    with pytest.raises(ValueError, match=rf"`{argument}` has the glob 'head\.\*', which matches none of: weight, bias"):
        bv.ParameterSpace.of(nn.Linear(2, 2), **{argument: "head.*"})


def test_filter_scale_is_the_norm_of_each_output_units_weights_and_one_for_vectors():
    model = mixed_model()
    space = bv.ParameterSpace.of(model)
    named = space.unflatten(space.scale(model, "filter"))
    for unit in range(3):
        assert torch.allclose(named["0.weight"][unit], model[0].weight[unit].norm().expand(2, 3, 3), rtol=1e-6)
    for row in range(4):
        assert torch.allclose(named["3.weight"][row], model[3].weight[row].norm().expand(12), rtol=1e-6)
    for name in ("0.bias", "1.weight", "1.bias"):
        assert bool((named[name] == 1).all())


def test_scale_none_is_one_everywhere():
    model = mixed_model()
    assert bool((bv.ParameterSpace.of(model).scale(model, "none") == 1).all())


def test_filter_of_zeros_is_reported_and_makes_the_estimate_invalid():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[2] = 0.0
    space = bv.ParameterSpace.of(model)
    assert space.zero_filters(space.scale(model, "filter")) == {"0.weight": 3}
    assert space.zero_filters(space.scale(model, "none")) == {}

    inputs = torch.randn(10, 3)
    data = (inputs, model(inputs).detach())
    with pytest.warns(UserWarning, match=r"scale 0 .*: 0.weight \(3\), .* pass exclude=\['0.weight'\] or"):
        est = bv.estimate_volume(model, nn.MSELoss(), data, 0.1, 5, on_censored="bound")
    assert est.diagnostics.verdict is bv.Verdict.INVALID
    assert "0.weight (3)" in est.diagnostics.reason
    assert est.log_volume == -float("inf"), "the measured body is flat along those coordinates"


def test_flat_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"`vector` must have shape \[6\], got \[5\]"):
        bv.ParameterSpace.of(nn.Linear(2, 2)).unflatten(torch.zeros(5))


def test_space_of_another_model_is_refused():
    space = bv.ParameterSpace.of(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"no parameter '0\.weight'; it is not the one this space was made of"):
        space.flatten(nn.Linear(2, 2))
