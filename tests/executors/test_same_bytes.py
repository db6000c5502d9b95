"""What runs on an executor has the bytes of what runs here."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import basinvol as bv
from basinvol.rays import RaySearchFailed
from basinvol.rays.blocks import Block, Ready, search_block


def trained() -> tuple[nn.Module, Any, tuple[Tensor, Tensor]]:
    """A perceptron on 40 points, by a loss that only cloudpickle can send."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator)
    y = (x[:, 0] > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, lambda outputs, targets: nn.functional.cross_entropy(outputs, targets), (x, y)


def assert_same(first: bv.Radii, second: bv.Radii) -> None:
    """Every field, bit for bit, NaN where NaN is."""
    for part in dataclasses.fields(first):
        a, b = getattr(first, part.name), getattr(second, part.name)
        if part.name == "trace" and a is not None:
            for name in ("ray", "radius", "losses"):
                torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0, equal_nan=True)
        elif isinstance(a, Tensor):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        else:
            assert a == b


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("resolve", ["all", "decisive"])
def test_radii_are_the_same(resolve: str, backend: str) -> None:
    model, loss_fn, data = trained()
    landscape = bv.Landscape(model, loss_fn, data, levels=[20, 40])
    directions = bv.Directions(bv.ParameterSpace.of(model), count=60)
    settings: dict[str, Any] = {"resolve": resolve, "backend": backend, "num_threads": 1}
    here = bv.find_radii(landscape, directions, [0.5, 0.8], **settings)
    spent = landscape.num_evaluations
    with ThreadPoolExecutor(2) as executor:
        there = bv.find_radii(landscape, directions, [0.5, 0.8], executor=executor, **settings)
    assert_same(here, there)
    assert landscape.num_evaluations == 2 * spent


def test_radii_of_a_dictionary_and_a_model_in_half_precision_are_the_same() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2).half()

        def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": nn.functional.cross_entropy(self.layer(inputs), labels)}

    torch.manual_seed(0)
    model, batch = Named(), {"inputs": torch.randn(20, 3), "labels": torch.arange(20) % 2}
    landscape = bv.Landscape(model, None, batch)
    directions = bv.Directions(bv.ParameterSpace.of(model), count=40)
    cutoff = float(landscape.losses()[-1]) + 0.3
    here = bv.find_radii(landscape, directions, [cutoff], num_threads=1)
    with ThreadPoolExecutor(2) as executor:
        assert_same(here, bv.find_radii(landscape, directions, [cutoff], executor=executor))


def test_rays_that_decide_are_refined_on_the_executor_too() -> None:
    case = bv.ground_truth.ball(20)  # all rays are equally long, so that all of them decide
    landscape = bv.Landscape(*case.task())
    directions = bv.Directions(bv.ParameterSpace.of(landscape.model), count=50)
    here = bv.find_radii(landscape, directions, [1.0], scaling="none", rtol=0.05, num_threads=1)
    names: list[str] = []

    class Noting(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            names.append(args[0].name)
            return super().submit(fn, *args, **kwargs)

    with Noting(2) as executor:
        assert_same(here, bv.find_radii(landscape, directions, [1.0], scaling="none", rtol=0.05, executor=executor))
    assert any(name.startswith("the refinement of directions ") for name in names)
    assert any(name.startswith("the search along directions ") for name in names)


@pytest.mark.parametrize("method", ["star", pytest.param("preconditioned", marks=pytest.mark.slow)])
def test_estimates_are_the_same(method: str) -> None:
    model, loss_fn, data = trained()
    settings: dict[str, Any] = {"cutoff": 0.6, "num_directions": 60, "method": method, "num_threads": 1}
    settings["on_censored"] = "bound"
    here = bv.estimate_volume(model, loss_fn, data, **settings)
    with ThreadPoolExecutor(2) as executor:
        there = bv.estimate_volume(model, loss_fn, data, executor=executor, **settings)
    assert dataclasses.replace(there, seconds=here.seconds).to_dict() == here.to_dict()
    assert_same(here.radii, there.radii)


@pytest.mark.parametrize(
    ("method", "is_native"),
    [
        ("annealed", True),
        ("splitting", True),
        ("hit-and-run", True),
        ("splitting", False),
        ("direct", True),
        ("direct", False),
        pytest.param("annealed", False, marks=pytest.mark.slow),
        pytest.param("hit-and-run", False, marks=pytest.mark.slow),
    ],
)
def test_chains_are_the_same(method: str, is_native: bool) -> None:
    model, loss_fn, data = trained()
    if not is_native:
        model = nn.Sequential(*model, nn.Softplus())
    settings: dict[str, Any] = {"cutoff": 0.9, "num_directions": 16, "method": method, "num_threads": 1}
    settings |= {"measure": "gaussian", "sigma": 0.3, "probe": False}
    settings["method_options"] = {
        "annealed": {"num_chains": 32, "num_final": 4, "rounds": 1},
        "splitting": {"num_chains": 32, "rounds": 1},
        "direct": {"most_draws": 200},
        "hit-and-run": {"num_walkers": 32, "num_steps": 4},
    }[method]
    here = bv.estimate_volume(model, loss_fn, data, **settings)
    names: set[str] = set()

    class Noting(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            names.add(args[0].name)
            return super().submit(fn, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, Noting(2) as executor:
        patch.setattr("basinvol.estimators.batched._MOST_NUMBERS", 5 * 26)  # five points in a pass
        there = bv.estimate_volume(model, loss_fn, data, executor=executor, **settings)
        if not is_native:
            here = bv.estimate_volume(model, loss_fn, data, **settings)
    assert dataclasses.replace(there, seconds=here.seconds).to_dict() == here.to_dict()
    assert any(name.startswith("the loss of chains") for name in names)


def test_minima_are_measured_on_the_way_to_their_comparison() -> None:
    model, loss_fn, data = trained()
    settings: dict[str, Any] = {"cutoff": 0.6, "num_directions": 40, "on_censored": "bound", "num_threads": 1}
    first = bv.estimate_volume(model, loss_fn, data, **settings)
    wider = bv.estimate_volume(model, loss_fn, data, **{**settings, "cutoff": 0.9})
    with ThreadPoolExecutor(2) as executor:
        found = bv.compare([(model, loss_fn, data), wider], ["narrow", "wide"], executor=executor, **settings)
    assert str(found) == str(bv.compare([first, wider], ["narrow", "wide"]))
    assert str(bv.compare([(model, loss_fn, data), wider], ["narrow", "wide"], **settings)) == str(found)


def test_what_cannot_be_compared_is_refused() -> None:
    model, loss_fn, data = trained()
    with pytest.raises(ValueError, match=r"`estimates` must hold estimates or \(model, loss_fn, data\), got a Linear"):
        bv.compare([nn.Linear(2, 2), (model, loss_fn, data)])  # type: ignore[list-item]
    first = bv.estimate_volume(model, loss_fn, data, cutoff=0.6, num_directions=8, on_censored="bound")
    with pytest.raises(ValueError, match=r"`cutoff` is for minima that are measured, and all of these are estimates"):
        bv.compare([first, first], cutoff=0.1)


def test_calibrations_are_the_same() -> None:
    cases = [bv.ground_truth.ball(5), bv.ground_truth.ball(8)]
    here = bv.calibrate(cases, num_directions=20, num_threads=1)
    with ThreadPoolExecutor(2) as executor:
        there = bv.calibrate(cases, num_directions=20, executor=executor)
    assert [row.score for row in there] == [row.score for row in here]


def test_a_search_that_fails_on_a_worker_keeps_the_radii_before_it() -> None:
    class Failing(Executor):
        def __init__(self) -> None:
            self.calls = 0

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            self.calls += 1
            if self.calls == 3:
                future.set_exception(ConnectionError("the machine is gone"))
            else:
                future.set_result(fn(*args, **kwargs))
            return future

    model, loss_fn, data = trained()
    landscape = bv.Landscape(model, loss_fn, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), count=60)
    sentence = r"the search failed: the search along directions \d+ to \d+ was lost: ConnectionError: the machine is"
    with pytest.raises(RaySearchFailed, match=sentence) as caught:
        bv.find_radii(landscape, directions, [0.6], executor=Failing(), num_threads=1)
    kept = caught.value.radii
    assert kept is not None
    assert 4 < len(kept) < 60
    assert_same(bv.RaySolver(landscape, directions, [0.6], num_threads=1).solve(0, len(kept)), kept)


def test_a_model_that_cannot_be_pickled_is_one_sentence() -> None:
    model, loss_fn, data = trained()
    model.lock = threading.Lock()
    landscape = bv.Landscape(model, loss_fn, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), count=8)
    with pytest.raises(ValueError, match=r"the model, its loss or its data cannot be sent to workers, because"):
        bv.find_radii(landscape, directions, [0.6], executor=ThreadPoolExecutor(1))


def test_a_worker_without_the_device_says_so() -> None:
    model, loss_fn, data = trained()
    landscape = bv.Landscape(model, loss_fn, data)
    solver = bv.RaySolver(landscape, bv.Directions(bv.ParameterSpace.of(model), 8), [0.6], backend="native")
    ready = Ready(solver.problem, solver.choice.backend, bv.rays.SearchOptions().resources())
    ready._landscape.device = torch.device("meta")
    with pytest.raises(bv.BackendUnavailable, match=r"backend 'native' cannot be used on this worker: it computes on"):
        search_block(ready, Block(range(4, 8), solver.generic_guess))


@pytest.mark.slow
def test_processes_of_this_machine_give_the_same_bytes() -> None:
    model, loss_fn, data = trained()
    landscape = bv.Landscape(model, loss_fn, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), count=60)
    here = bv.find_radii(landscape, directions, [0.5, 0.8], num_threads=1)
    assert_same(here, bv.find_radii(landscape, directions, [0.5, 0.8], executor="local:2"))
