from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import basinvol as bv

TENSORS = ("lower", "upper", "radius", "value_lower", "value_upper", "slope", "status_code", "num_evaluations")


def bytes_of(radii: bv.Radii) -> list[bytes]:
    return [getattr(radii, name).contiguous().numpy().tobytes() for name in TENSORS]


@pytest.mark.slow
@pytest.mark.parametrize("search", ["interpolate", "bisect", "grid"])
def test_reference_gives_the_same_bytes_for_any_blocks_in_any_order(trained, blobs, search):
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    directions = bv.Directions(bv.ParameterSpace.of(trained), 11)

    def solver() -> bv.RaySolver:
        return bv.RaySolver(
            landscape, directions, [0.1, 0.4], search=search, rtol=1e-3, grid=[0.1, 0.3, 0.9], backend="reference"
        )

    whole, everything = bytes_of(solver().solve(0, 11)), bytes_of(solver().solve_all())
    for cuts in ((0, 1, 2, 3, 4, 11), (0, 3, 6, 11), tuple(range(12))):
        engine, blocks = solver(), list(itertools.pairwise(cuts))
        solved = {block: engine.solve(*block) for block in reversed(blocks)}
        joined = bv.Radii.concatenate([solved[block] for block in blocks])
        assert bytes_of(joined) == whole, cuts
        # The rays that decide are refined together, by the solver that found them or by another.
        assert bytes_of(engine.refine(joined)) == everything, cuts
    assert bytes_of(solver().refine(joined)) == everything


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_first_directions_of_many_are_those_of_few(trained, blobs, backend):
    space, landscape = bv.ParameterSpace.of(trained), bv.Landscape(trained, F.cross_entropy, blobs)
    few, many = (
        bv.find_radii(landscape, bv.Directions(space, count, seed=5), [0.1], backend=backend) for count in (6, 14)
    )
    assert bytes_of(many.between(0, 6)) == bytes_of(few)


def test_order_of_cutoffs_is_the_callers_and_changes_no_radius(body, body_loss, one_example):
    model = body(lambda w: w.square().sum(), 3)
    landscape, directions = bv.Landscape(model, body_loss, one_example), bv.Directions(bv.ParameterSpace.of(model), 5)
    for cutoffs in ([0.1, 4.0, 1.0], [4.0, 1.0, 0.1]):
        radii = bv.find_radii(landscape, directions, cutoffs, scaling="none")
        assert radii.cutoffs == tuple(cutoffs)
        for column, cutoff in enumerate(cutoffs):
            assert torch.allclose(radii.radius[0, column], torch.tensor(math.sqrt(cutoff)).double(), rtol=1e-4)


def test_cutoff_below_the_center_is_no_error_beside_others(trained, blobs):
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    directions = bv.Directions(bv.ParameterSpace.of(trained), 6)
    radii = bv.find_radii(landscape, directions, [1e-9, 0.1])
    assert (radii.at(cutoff=1e-9).status == bv.Status.CENTER_OUTSIDE).all()
    assert bool((radii.at(cutoff=1e-9).radius == 0).all())
    assert (radii.at(cutoff=0.1).status == bv.Status.CROSSED).all()


def test_larger_cutoff_and_tighter_level_give_nested_brackets(body, body_loss, one_example):
    """A body inside another has smaller radii along every direction."""
    model = body(lambda w: w.square().sum() + w[0] ** 4, 4)
    landscape, directions = bv.Landscape(model, body_loss, one_example), bv.Directions(bv.ParameterSpace.of(model), 20)
    radii = bv.find_radii(landscape, directions, [0.5, 1.0], scaling="none")
    assert bool((radii.at(cutoff=0.5).upper < radii.at(cutoff=1.0).lower).all())


def test_radii_are_in_units_of_the_scale(make_mlp):
    model, inputs = make_mlp([4, 2], bias=False).double(), torch.randn(12, 4, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight.div_(model[0].weight.norm(dim=1, keepdim=True)).mul_(7.0)  # every filter has norm 7
    landscape = bv.Landscape(model, F.mse_loss, (inputs, model(inputs).detach()))
    directions = bv.Directions(bv.ParameterSpace.of(model), 5)
    scaled, plain = (bv.find_radii(landscape, directions, [0.3], scaling=s, rtol=1e-9) for s in ("filter", "none"))
    assert torch.allclose(7.0 * scaled.radius, plain.radius, rtol=1e-8)


def test_failure_carries_the_directions_that_were_finished(body, one_example):
    model, calls = body(lambda w: w.square().sum(), 3), []

    def failing(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 300:
            raise RuntimeError("the disk of the loss is full")
        return outputs.mean()

    landscape, directions = bv.Landscape(model, failing, one_example), bv.Directions(bv.ParameterSpace.of(model), 200)
    with pytest.raises(
        bv.RaySearchFailed, match=r"failed at directions \d+ to \d+: the disk of the loss is full"
    ) as caught:
        bv.find_radii(landscape, directions, [1.0], scaling="none", num_threads=1)
    finished = int(re.findall(r"directions (\d+) to", str(caught.value))[0])
    assert finished > 0
    assert len(caught.value.radii) == finished
    assert torch.allclose(caught.value.radii.radius, torch.tensor(1.0, dtype=torch.float64), rtol=1e-4)


def test_progress_is_quiet_where_there_is_no_terminal(body, body_loss, one_example, capsys):
    model = body(lambda w: w.square().sum(), 3)
    landscape, directions = bv.Landscape(model, body_loss, one_example), bv.Directions(bv.ParameterSpace.of(model), 3)
    bv.find_radii(landscape, directions, [1.0], progress=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
@pytest.mark.parametrize("resolve", ["all", "decisive"])
def test_refinement_does_not_depend_on_what_the_solver_did_before(trained, blobs, resolve, backend):
    """Radii may come from blocks that another process solved."""
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    directions = bv.Directions(bv.ParameterSpace.of(trained), 60)

    def solver() -> bv.RaySolver:
        return bv.RaySolver(landscape, directions, [0.1], rtol=1e-2, resolve=resolve, backend=backend)

    first = solver()
    found = first.solve(0, 60)
    refined = first.refine(found)
    assert bytes_of(refined) != bytes_of(found), "nothing was refined, so nothing is tested"
    assert bytes_of(solver().refine(found)) == bytes_of(refined)


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
@pytest.mark.parametrize("search", ["interpolate", "bisect"])
def test_refinement_that_runs_out_of_steps_keeps_the_certified_radius(trained, blobs, search, backend):
    landscape = bv.Landscape(trained, F.cross_entropy, blobs)
    directions = bv.Directions(bv.ParameterSpace.of(trained), 30)
    solver = bv.RaySolver(landscape, directions, [0.1], search=search, rtol=0.5, max_steps=6, backend=backend)
    found = solver.solve(0, 30)
    crossed = found.is_status(bv.Status.CROSSED)
    assert bool(crossed.any())
    refined = solver.refine(found)
    assert bool(refined.is_status(bv.Status.CROSSED)[crossed].all())
    assert bool((refined.lower >= found.lower)[crossed].all())
    assert bool((refined.upper <= found.upper)[crossed].all())


# With seed 12, direction 8, the first that may be skipped, is long enough to be solved.
@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
@pytest.mark.parametrize(("seed", "next_is_solved"), [(0, False), (12, True)])
def test_spread_of_a_decisive_run_is_that_of_the_first_directions(trained, blobs, seed, next_is_solved, backend):
    est = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 60, seed, resolve="decisive", backend=backend)
    skipped = est.radii.is_status(bv.Status.NEGLIGIBLE)
    assert bool(skipped.any())
    assert bool(skipped[8]) != next_is_solved
    assert est.diagnostics.negligible == float(skipped.double().mean())
    assert est.diagnostics.num_spread == 8
    log_weights = est.dim * est.radii.radius[:8].log()
    assert est.diagnostics.z == pytest.approx(float(log_weights.std()) / math.sqrt(2 * math.log(60)), rel=1e-12)
    assert "of the first 8 directions" in str(est)


def test_directions_that_are_alike_are_solved_until_their_distribution_is_known(make_mlp):
    """17 parameters: the verdict is open, so 32 directions are needed for it, and later ones are skipped."""
    model, inputs = make_mlp([2, 3, 2]), torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    data = inputs, (inputs[:, 0] > 0).long()
    with torch.no_grad():
        cutoff = float(F.cross_entropy(model(data[0]), data[1])) + 0.3
    est = bv.estimate_volume(model, F.cross_entropy, data, cutoff, 200, resolve="decisive", scaling="none", probe=False)
    skipped = est.radii.is_status(bv.Status.NEGLIGIBLE)
    assert not bool(skipped[:32].any())
    assert bool(skipped[32:].any())
    assert est.diagnostics.num_spread == 32
    assert "of the first 32 directions" in str(est)


def test_every_ray_of_a_full_run_enters_the_spread(trained, blobs):
    est = bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 60, resolve="all")
    assert est.diagnostics.num_spread == est.diagnostics.num_used == 60
    assert est.diagnostics.negligible == 0


def test_unknown_way_to_resolve_is_refused(trained, blobs):
    with pytest.raises(ValueError, match="`resolve` must be one of 'all', 'decisive', got 'some'"):
        bv.estimate_volume(trained, F.cross_entropy, blobs, 0.1, 3, resolve="some")
