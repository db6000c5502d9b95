"""Models through torch.compile: the radii are those of the model itself, and what cannot be compiled is refused."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends import BackendUnavailable
from basinvol.backends.pytorch.engine import TorchEngine

NUM, BATCH = 24, 16
COMPILER = "basinvol.backends.pytorch.compilation._COMPILER"
NEEDS_A_COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler on the CPU"
)


class Network(nn.Module):
    """Convolutions, statistics of a batch norm, and layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.second, self.norm, self.head = nn.Conv2d(6, 6, 3), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.middle(self.first(x)))
        return self.head(self.norm(self.second(y).mean(dim=(2, 3))))


class Printing(Network):
    def forward(self, x: Tensor) -> Tensor:
        print("a call", end="")
        return super().forward(x) * 1.5


class Branching(Network):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * 1.5 if float(y.detach().mean()) > 0.1 else y


class ByName(Network):
    def forward(self, *, model: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(super().forward(model), labels)}


class Numbered(Network):
    """Every call is another one to torch.compile, because of a number that no guard of modules sees."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Numbered.calls += 1
        return super().forward(x) + 0.0 * Numbered.calls


def landscape(make: Callable[[], nn.Module] = Network, num: int = BATCH) -> bv.Landscape:
    torch.manual_seed(3)
    model, inputs, targets = make(), torch.randn(num, 1, 7, 7), torch.arange(num) % 3
    data: Any = (inputs, targets)
    loss_fn: Any = F.cross_entropy
    if make is ByName:
        data, loss_fn = {"model": inputs, "labels": targets}, None
    return bv.Landscape(model, loss_fn, data, batch_size=BATCH)


def solver(measured: bv.Landscape, count: int = 6, **options: Any) -> bv.RaySolver:
    directions = bv.Directions(bv.ParameterSpace.of(measured.model), count)
    cutoff = float(measured.losses()) + 0.2
    return bv.RaySolver(measured, directions, [cutoff], **{"backend": "torch", "compile": True, **options})


def assert_same(found: bv.Radii, expected: bv.Radii) -> None:
    assert torch.equal(found.status_code, expected.status_code)
    assert torch.allclose(found.radius, expected.radius, rtol=1e-5, equal_nan=True)
    slack = 1e-5 * expected.upper
    assert bool(((found.lower <= expected.upper + slack) & (expected.lower <= found.upper + slack)).all())


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are traced and called as they are: everything but the C++ that takes seconds."""
    monkeypatch.setattr(COMPILER, "eager")


@pytest.fixture(scope="module")
def measured() -> bv.Landscape:
    """One landscape for all tests that compile C++, so that this happens once."""
    return landscape()


@pytest.mark.slow
@NEEDS_A_COMPILER
def test_radii_are_those_of_the_model_itself(measured: bv.Landscape) -> None:
    found = solver(measured).solve_all()
    assert bool(found.is_status(bv.Status.CROSSED).any())
    assert_same(found, solver(measured, compile=False).solve_all())


@pytest.mark.slow
@NEEDS_A_COMPILER
def test_decisive_radii_are_too(measured: bv.Landscape) -> None:
    found = solver(measured, 40, resolve="decisive").solve_all()
    assert bool(found.is_status(bv.Status.NEGLIGIBLE).any())
    assert_same(found, solver(measured, 40, resolve="decisive", compile=False).solve_all())


@NEEDS_A_COMPILER
def test_losses_follow_the_parameters(measured: bv.Landscape) -> None:
    compiled, eager = (solver(measured, compile=compile).engine for compile in (True, False))
    assert isinstance(compiled, TorchEngine)
    assert isinstance(eager, TorchEngine)
    losses = []
    for engine in (compiled, eager):
        (team, *_) = engine._teams
        with engine._measuring():
            engine._stop.clear()  # as before every search
            team.aim(1)
            losses.append([team.losses(radius, 1)[0] for radius in (0.0, 0.3, 1.1, 0.3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][1] == losses[0][3]
    assert len(set(losses[0])) == 3


@pytest.mark.usefixtures("traced")
def test_estimates_are_those_of_the_model_itself() -> None:
    measured = landscape()
    data, cutoff = (measured.inputs, measured.targets), float(measured.losses()) + 0.2

    def estimate(compile: bool) -> bv.VolumeEstimate:
        return bv.estimate_volume(
            measured.model, F.cross_entropy, data, cutoff, 6, backend="torch", batch_size=BATCH, probe=False,
            compile=compile,
        )  # fmt: skip

    assert estimate(True).log_volume == pytest.approx(estimate(False).log_volume, rel=1e-5)


@pytest.mark.usefixtures("traced")
def test_each_thread_compiles_once_for_all_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def compiler(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr("torch._dynamo.lookup_backend", lambda name: compiler)
    monkeypatch.setattr("basinvol.backends.pytorch.engine._SHORT", 0.0)
    shared = landscape(num=NUM)
    for _ in range(2):
        compiled = solver(shared, num_threads=2)
        assert compiled.description.endswith(", compiled")
        assert "2 directions at a time" in compiled.description
        compiled.solve_all()
    assert len(graphs) == 2 * 2  # a full batch and the last one in each thread


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_model_is_left_as_it_was(num_threads: int) -> None:
    given = landscape()
    attributes = [dict(vars(part)) for part in given.model.modules()]
    tensors = copy.deepcopy(given.model.state_dict())
    own = [(id(p), dict(vars(p))) for p in given.model.parameters()]
    solver(given, num_threads=num_threads).solve_all()
    assert [dict(vars(part)) for part in given.model.modules()] == attributes
    assert [(id(p), dict(vars(p))) for p in given.model.parameters()] == own
    assert all(torch.equal(value, tensors[name]) for name, value in given.model.state_dict().items())


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("make", [Printing, Branching, ByName])
def test_graph_breaks_and_named_inputs_work(make: type[nn.Module]) -> None:
    given = landscape(make)
    compiled = solver(given, num_threads=2)
    if make is not ByName:  # copies would share the parts between the breaks
        assert "1 directions at a time on 1 threads" in compiled.description
    assert_same(compiled.solve_all(), solver(given, compile=False).solve_all())


@pytest.mark.usefixtures("traced")
def test_a_model_that_is_compiled_anew_at_every_call_is_refused() -> None:
    with pytest.raises(BackendUnavailable, match="pass compile=False to evaluate it as it is"):
        solver(landscape(Numbered))


def test_a_failing_compilation_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        raise RuntimeError("no compiler was found.\nAnd much more.")

    monkeypatch.setattr("torch._dynamo.lookup_backend", lambda name: fail)
    expected = (
        r"^backend 'torch' cannot compile this model: RuntimeError: no compiler was found; pass compile=False to "
        r"evaluate it as it is\.$"
    )
    with pytest.raises(BackendUnavailable, match=expected):
        solver(landscape())


def test_other_losses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        return lambda *given: tuple(1.001 * part for part in graph.forward(*given))

    monkeypatch.setattr("torch._dynamo.lookup_backend", lambda name: wrong)
    with pytest.raises(BackendUnavailable, match=r"its losses differ by up to .* when it is compiled; pass compile"):
        solver(landscape())


def test_parameters_that_are_baked_in_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def baked(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        kept: list[Any] = []

        def run(*given: Any) -> Any:
            if not kept:
                kept.append(graph.forward(*given))
            return kept[0]

        return run

    monkeypatch.setattr("torch._dynamo.lookup_backend", lambda name: baked)
    with pytest.raises(BackendUnavailable, match="its losses differ by up to"):
        solver(landscape())


def test_nothing_runs_uncompiled_in_silence() -> None:
    with torch.compiler.set_stance("force_eager"), pytest.raises(BackendUnavailable, match="calls it as it is"):
        solver(landscape())


@pytest.mark.parametrize("backend", ["native", "reference", "triton", "cuda"])
def test_other_backends_refuse_by_name(backend: str) -> None:
    with pytest.raises(
        BackendUnavailable, match=f"^backend '{backend}' does not compile models .*; pass compile=False"
    ):
        solver(landscape(), backend=backend)


@pytest.mark.usefixtures("traced")
def test_auto_takes_the_engine_that_compiles() -> None:
    choice = solver(landscape(), backend="auto").choice
    assert choice.backend.name == "torch"
    assert "not native: it does not compile models with torch.compile" in choice.reason


def test_the_option_is_true_or_false() -> None:
    with pytest.raises(ValueError, match="`compile` must be one of False, True, got 'yes'"):
        solver(landscape(), compile="yes")
