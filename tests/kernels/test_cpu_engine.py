"""Every instruction set of the compiled engine against float64; what it keeps in memory changes no byte."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol import _native
from basinvol.model.philox import philox_normals

ISAS = _native.instruction_sets()
LOSSES = {"cross_entropy": F.cross_entropy, "bce": F.binary_cross_entropy_with_logits, "mse": F.mse_loss}
TENSORS = ("lower", "upper", "radius", "value_lower", "value_upper", "slope", "status_code", "num_evaluations")

# widths, activation, loss, rows: the sides of 6-row tiles, 96-row blocks and of panels of 8, 16 and 64 units.
SHAPES = [
    ([3, 1, 4], "tanh", "mse", 200),
    ([5, 5, 3], "relu", "cross_entropy", 97),
    ([6, 6, 1], "gelu", "bce", 96),
    ([7, 7, 7, 7], "identity", "mse", 95),
    ([1, 15, 2], "relu", "bce", 7),
    ([17, 16, 17], "relu", "mse", 6),
    ([16, 17, 1, 5], "tanh", "cross_entropy", 5),
    ([15, 63, 9], "relu", "mse", 1),
    ([9, 64, 65, 3], "relu", "bce", 97),
    ([65, 65, 6], "gelu", "mse", 96),
    ([2, 127, 128, 1], "relu", "mse", 95),
    ([33, 128, 129], "tanh", "cross_entropy", 6),
    ([127, 129, 5], "relu", "mse", 193),
    ([11, 3], "relu", "mse", 200),
    ([129, 1], "relu", "bce", 1),
    ([4, 6, 10_000], "relu", "cross_entropy", 7),
]
IDS = [f"{'x'.join(map(str, w))}-{a}-{loss}-{n}" for w, a, loss, n in SHAPES]


def fitted(model: nn.Module, inputs: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """Targets that `model` fits about as well as a trained network would."""
    outputs = model(inputs).detach()
    if loss == "cross_entropy":
        return inputs, outputs.argmax(dim=1)
    return inputs, (outputs > 0).float() if loss == "bce" else outputs + 0.05 * torch.randn_like(outputs)


def gapped(count: int, features: int) -> Tensor:
    """Inputs between rows and columns of NaN, which nothing may read."""
    around = torch.full((2 * count + 1, features + 3), torch.nan)
    around[1::2, 1:-2] = torch.randn(count, features)
    return around[1::2, 1:-2]


def images(count: int, features: int, offset: float) -> Tensor:
    """Four of five entries hold one value per column, as the background of normalized images."""
    background = offset + torch.randn(features)
    return torch.where(torch.rand(count, features) < 0.8, background, offset + torch.randn(count, features))


def rms(errors: list[Tensor]) -> float:
    return float(torch.cat(errors).square().mean().sqrt())


def assert_as_exact_as_torch(model: nn.Module, loss: str, data, isa: str, losses_along, num_rays: int = 8) -> str:
    """The losses at both ends of brackets of four cutoffs; returns the engine's description."""
    directions = bv.Directions(bv.ParameterSpace.of(model), num_rays, generator="legacy")
    loss_fn, landscape = LOSSES[loss], bv.Landscape(model, LOSSES[loss], data)
    center = float(landscape.losses()[0])
    cutoffs = [center + 0.05, 1.5 * center + 0.1, 2 * center + 0.2, 4 * center + 0.4]
    solver = bv.RaySolver(landscape, directions, cutoffs, rtol=0.2, backend="native", instruction_set=isa)
    radii = solver.solve(0, num_rays)
    kernel, torch_ = [], []
    for cutoff in cutoffs:
        at = radii.at(cutoff=cutoff)
        rays = at.is_status(bv.Status.CROSSED).nonzero().reshape(-1)
        for radius, value in ((at.lower, at.value_lower), (at.upper, at.value_upper)):
            if len(rays) == 0:
                continue
            along = (model, loss_fn, data, directions, rays.tolist(), radius[rays])
            exact = losses_along(*along, torch.float64)
            kernel.append((value[rays] - exact) / exact)
            torch_.append((losses_along(*along, torch.float32) - exact) / exact)
    assert sum(map(len, kernel)) >= 2 * num_rays, "too few rays crossed"
    assert rms(kernel) <= 2.0 * rms(torch_)
    return solver.description


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("widths", "activation", "loss", "count"), SHAPES, ids=IDS)
def test_losses_along_rays_err_at_most_twice_as_much_as_torch(
    make_mlp, widths, activation, loss, count, isa, losses_along
):
    model = make_mlp(widths, activation)
    assert_as_exact_as_torch(model, loss, fitted(model, gapped(count, widths[0]), loss), isa, losses_along)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_at_the_center_err_at_most_twice_as_much_as_torch(make_mlp, isa, loss):
    kernel, torch_ = [], []
    # Four networks of each shape: the errors of a few single examples would decide the mean of fewer.
    for seed, (widths, activation, _, count) in itertools.product(range(4), SHAPES[:-1]):
        model = make_mlp(widths, activation, seed=seed)
        inputs, targets = fitted(model, gapped(count, widths[0]), loss)
        levels = sorted({1, max(1, count // 2), max(1, count - 1), count})
        landscape = bv.Landscape(model, LOSSES[loss], (inputs, targets), levels=levels)
        directions = bv.Directions(bv.ParameterSpace.of(model), 1)
        solver = bv.RaySolver(landscape, directions, [9.0], backend="native", instruction_set=isa)
        rough = torch.stack([LOSSES[loss](model(inputs[:n]).detach(), targets[:n]).double() for n in levels])
        wide = model.double()
        targets = targets.double() if targets.is_floating_point() else targets
        exact = torch.stack([LOSSES[loss](wide(inputs[:n].double()).detach(), targets[:n]) for n in levels])
        some = exact > 0
        # Rounding moves a residual by the same amount however small it is. Relative errors of one square of a small
        # residual have no bound, and one of them would decide the mean of all: so roots of squares are compared.
        found, rough, exact = (
            values[some].sqrt() if loss == "mse" else values[some] / exact[some]
            for values in (solver.center_losses, rough, exact)
        )
        kernel.append(found - exact)
        torch_.append(rough - exact)
    assert rms(kernel) <= 2.0 * rms(torch_)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize(("count", "offset"), [(1, 0.0), (97, 0.0), (200, 0.0), (200, 30.0)])
def test_inputs_with_a_background_are_stored_sparsely_and_as_exact(make_mlp, isa, loss, count, offset, losses_along):
    model = make_mlp([100, 33, 10])
    data = fitted(model, images(count, 100, offset), loss)
    description = assert_as_exact_as_torch(model, loss, data, isa, losses_along)
    found_isa, stored = description.split(", ")
    assert found_isa == isa
    share = float(stored.split("%")[0])
    assert share < 100
    dense = fitted(model, torch.randn(count, 100), loss)
    if count > 1:
        assert ", 100%" in assert_as_exact_as_torch(model, loss, dense, isa, losses_along)


@pytest.mark.parametrize("isa", ISAS[1:])
@pytest.mark.parametrize("seed", [0, 2**32 + 5, 2**64 - 1])
def test_normals_are_the_same_bits_on_every_instruction_set(isa, seed):
    for count in (0, 1, 3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 129, 20_001):
        best = _native.philox_normals(seed, 7, 3, count, instruction_set=ISAS[0])
        assert _native.philox_normals(seed, 7, 3, count, instruction_set=isa).tobytes() == best.tobytes()
        assert np.array_equal(_native.philox_normals(seed, 7, 3, count), best)
        assert np.abs(philox_normals(seed, 7, 3, count).numpy() - best).max(initial=0.0) <= 1e-6


def test_unknown_instruction_set_is_refused_with_those_there_are(trained, blobs):
    landscape, directions = (
        bv.Landscape(trained, F.cross_entropy, blobs),
        bv.Directions(bv.ParameterSpace.of(trained), 1),
    )
    with pytest.raises(ValueError, match=r"instruction set 'v9' is not one of this machine's: .*baseline"):
        bv.RaySolver(landscape, directions, [0.1], backend="native", instruction_set="v9")


def bytes_of(radii: bv.Radii) -> list[bytes]:
    return [getattr(radii, name).contiguous().numpy().tobytes() for name in TENSORS]


@pytest.mark.parametrize("resolve", ["all", "decisive"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_same_bytes_for_any_threads_blocks_and_memory(make_mlp, kind, resolve):
    model = make_mlp([40, 70, 20, 3])
    data = fitted(model, torch.randn(203, 40) if kind == "dense" else images(203, 40, 0.0), "cross_entropy")
    landscape = bv.Landscape(model, F.cross_entropy, data, levels=[1, 97, 203])
    directions = bv.Directions(bv.ParameterSpace.of(model), 70)
    center = float(landscape.losses().max())

    def solver(num_threads: int, memory_budget: int) -> bv.RaySolver:
        return bv.RaySolver(
            landscape,
            directions,
            [center + 0.05, center + 0.3],
            resolve=resolve,
            backend="native",
            num_threads=num_threads,
            memory_budget=memory_budget,
        )

    found = solver(1, 2**30).solve_all()
    assert bool(found.is_status(bv.Status.NEGLIGIBLE).any()) == (resolve == "decisive")
    whole = bytes_of(found)
    # Nothing kept, one tile, some blocks (of 80 x 4 bytes a row and thread), more than there is.
    for num_threads, memory_budget in itertools.product((1, 2), (0, 4000, 100_000, 2**60)):
        assert bytes_of(solver(num_threads, memory_budget).solve_all()) == whole
    for cuts in [(0, 1, 31, 32, 33, 70), (0, 2, 45, 70)]:
        engine, blocks = solver(2, 4000), list(itertools.pairwise(cuts))
        solved = {block: engine.solve(*block) for block in reversed(blocks)}
        joined = bv.Radii.concatenate([solved[block] for block in blocks])
        assert bytes_of(engine.refine(joined)) == whole


@pytest.mark.parametrize("search", ["interpolate", "bisect", "grid"])
def test_one_pass_over_levels_and_cutoffs_brackets_the_radii_of_separate_runs(make_mlp, search):
    """4,000 rows, so that the larger levels have scouts."""
    model = make_mlp([6, 8, 3])
    inputs, labels = fitted(model, torch.randn(4000, 6), "cross_entropy")
    labels = torch.where(torch.rand(4000) < 0.02, (labels + 1) % 3, labels)
    directions, levels = bv.Directions(bv.ParameterSpace.of(model), 9), [7, 4000]
    center = float(bv.Landscape(model, F.cross_entropy, (inputs, labels), levels=levels).losses().max())
    cutoffs = [center + 0.4, center + 0.02, center + 0.1]
    together = bv.find_radii(
        bv.Landscape(model, F.cross_entropy, (inputs, labels), levels=levels),
        directions,
        cutoffs,
        search=search,
        backend="native",
    )
    assert together.levels == tuple(levels)
    for level, cutoff in itertools.product(levels, cutoffs):
        landscape = bv.Landscape(model, F.cross_entropy, (inputs[:level], labels[:level]))
        alone = bv.find_radii(landscape, directions, [cutoff], search=search, backend="native").at()
        found = together.at(level, cutoff)
        assert torch.equal(alone.status_code, found.status_code)
        crossed = alone.is_status(bv.Status.CROSSED)
        overlap = torch.maximum(alone.lower, found.lower) <= torch.minimum(alone.upper, found.upper)
        # Two refined brackets, each down to four float32 steps, in which the loss is not monotone.
        nearly = (alone.radius - found.radius).abs() <= 8 * torch.finfo(torch.float32).eps * alone.radius
        assert bool((overlap | nearly)[crossed].all())
        assert search != "grid" or torch.equal(alone.radius[crossed], found.radius[crossed])
        assert bool(crossed.any())
