"""Evaluation by replaying: when it is used, and that it changes no byte. Captures are played by calling again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.pytorch.engine import TorchEngine
from basinvol.backends.pytorch.evaluators import OnDevice, Stopped
from basinvol.backends.pytorch.graphs import Capture, replaying
from basinvol.backends.pytorch.units import units_of

NUM = 40
BATCH = 7  # so that the last batch is smaller
Work = Callable[[], None]


class Counting(nn.Module):
    """Counts its calls in a place that no guard sees."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        Counting.calls += 1
        return self.second(F.gelu(self.first(x)).mean(dim=2))


class ByName(Counting):
    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        return super().forward(x + shift)


class Scratch(Counting):
    """Writes into a tensor that is an attribute, which a replay would write after the guard is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.scratch.add_(1.0)
        return super().forward(x)


def mean_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - F.one_hot(targets, 3)).abs().mean()


def by_name_loss(outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(outputs, batch["x"].sum(dim=(1, 2)).abs().long().clamp(max=2))


def landscape(kind: str) -> bv.Landscape:
    torch.manual_seed(1)
    inputs, targets = torch.randn(NUM, 2, 6), torch.arange(NUM) % 3
    data: Any = inputs, targets
    model, loss_fn = Counting(), {"by example": F.cross_entropy, "by batch": mean_error}.get(kind, F.cross_entropy)
    if kind == "several inputs":
        model, data = ByName(), ((inputs, torch.randn(NUM, 1, 1)), targets)
    if kind == "weights":
        loss_fn = nn.CrossEntropyLoss(ignore_index=0)
        data = inputs, torch.where(torch.arange(NUM) < 14, 0, targets)  # two batches in which nothing counts
    if kind == "scratch":
        model = Scratch()
    return bv.Landscape(model, loss_fn, data, levels=[13, NUM] if kind != "weights" else [NUM], batch_size=BATCH)


def solver(kind: str, resolve: str = "all") -> bv.RaySolver:
    measured = landscape(kind)
    directions = bv.Directions(bv.ParameterSpace.of(measured.model), 40)
    cutoffs = [float(measured.losses().max()) + 0.1]
    return bv.RaySolver(measured, directions, cutoffs, backend="torch", rtol=1e-3, resolve=resolve, num_threads=1)


class Captures:
    """Captures by keeping the work, and remembers how often; `replay` makes what repeats it."""

    def __init__(self, replay: Callable[[Work], Work] = lambda work: work) -> None:
        self.replay, self.number = replay, 0

    def __call__(self, work: Work) -> Work:
        self.number += 1
        return self.replay(work)


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Callable[[Capture | None], None]:
    """Lets the engine evaluate as on a device, with what captures; None for no captures."""

    def use(capture: Capture | None) -> None:
        def evaluator(self: TorchEngine, copy: Any, callers: Any, tried: float) -> Any:
            eager = OnDevice(self._units, copy, callers[0], self._stop)
            return eager if capture is None else replaying(eager, capture, tried)

        monkeypatch.setattr(TorchEngine, "_evaluator", evaluator)

    return use


KINDS = ["by example", "by batch", "several inputs", "weights"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resolve", ["all", "decisive"])
def test_a_device_and_its_graphs_change_no_byte(kind: str, resolve: str, on_device: Any) -> None:
    expected = solver(kind, resolve).solve_all()
    for capture in (None, Captures()):
        on_device(capture)
        used = solver(kind, resolve)
        found = used.solve_all()
        assert used.description.endswith("CUDA graphs") == (capture is not None)
        for name in ("lower", "upper", "value_lower", "value_upper", "status_code", "num_evaluations"):
            assert torch.equal(getattr(found, name).nan_to_num(), getattr(expected, name).nan_to_num()), name


def test_a_batch_of_each_size_is_captured_once_and_only_ends_of_proofs_call_the_model(on_device: Any) -> None:
    def replay(work: Work) -> Work:  # without the model's calls being counted
        def again() -> None:
            before = Counting.calls
            work()
            Counting.calls = before

        return again

    captures = Captures(replay)
    on_device(captures)
    used = solver("by example")
    assert captures.number == 2
    used.solve(0, 4)  # the scan of the first rays calls the model itself
    before = Counting.calls
    used.solve(4, 12)
    assert Counting.calls == before


def stale(work: Work) -> Work:
    """A graph that does not see other parameters."""
    return lambda: None


def refusing(work: Work) -> Work:
    raise RuntimeError("operation not permitted when stream is capturing")


def failing_later(work: Work) -> Work:
    def again() -> None:
        raise RuntimeError("an illegal address")

    return again


@pytest.mark.slow
@pytest.mark.parametrize("replay", [stale, refusing, failing_later])
def test_what_cannot_be_replayed_is_evaluated_by_calling(replay: Callable[[Work], Work], on_device: Any) -> None:
    expected = solver("by example").solve_all()
    captures = Captures(replay)
    on_device(captures)
    used = solver("by example")
    assert captures.number > 0
    assert "CUDA graphs" not in used.description
    assert torch.equal(used.solve_all().lower, expected.lower)


def test_a_model_that_writes_into_its_tensors_is_not_captured(on_device: Any) -> None:
    captures = Captures()
    on_device(captures)
    used = solver("scratch")
    assert captures.number == 0
    assert "CUDA graphs" not in used.description
    assert torch.equal(used.problem.landscape.model.scratch, torch.zeros(1))


def test_a_model_that_moves_its_parameters_moves_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = solver("by example").problem.working_copy
    monkeypatch.setattr(copy, "_is_on_cpu", False)
    before = {name: p.data_ptr() for name, p in copy.named.items()}
    for p in copy.named.values():
        p.set_(torch.zeros_like(p))  # as recurrent layers do on a device
    assert {name: p.data_ptr() for name, p in copy.named.items()} == before


def test_what_was_stopped_is_not_evaluated() -> None:
    problem, stop = solver("by example").problem, threading.Event()
    evaluator = OnDevice(units_of(problem.landscape)[0], problem.working_copy, problem.landscape.caller, stop)
    stop.set()
    with pytest.raises(Stopped):
        evaluator.fill(torch.zeros(NUM, dtype=torch.float64), NUM)
