"""The engine torch on a CUDA device: brackets that hold in float64, with and without graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.unit_vector import unit_vector_into
from basinvol.model.full_precision import full_precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    # Weights that are perturbed one by one do not lie in the one block that cuDNN prefers.
    pytest.mark.filterwarnings("ignore:RNN module weights:UserWarning"),
]
NUM = 90
BATCH = 32  # two whole batches, and one that is smaller


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 16, 3, stride=2), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.gelu(self.norm(self.first(x))))).mean(dim=(2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(6, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(11, 16), nn.LayerNorm(16)
        self.attend, self.head = nn.Linear(16, 48), nn.Linear(16, 11, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        q, k, v = self.attend(self.norm(x)).view(*tokens.shape, 3, 2, 8).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return self.head(x + mixed)


class Branching(nn.Module):
    """Looks at its activations on the host: it cannot be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.second(F.relu(y) if float(y.detach().mean()) < 1e9 else y)


class Waiting(Branching):
    """Waits in a way that only a capture refuses."""

    def forward(self, x: Tensor) -> Tensor:
        torch.cuda.synchronize()
        return self.second(F.relu(self.first(x)))


def next_token(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def mean_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Known by batch alone."""
    return (outputs - F.one_hot(targets, 4)).abs().mean()


def labels() -> Tensor:
    return torch.arange(NUM) % 4


Case = tuple[Callable[[], nn.Module], Callable[[], Tensor], Callable[[], Tensor], Any]
CASES: dict[str, Case] = {
    "convolutions": (Convolutional, lambda: torch.randn(NUM, 1, 12, 12), labels, F.cross_entropy),
    "recurrent": (Recurrent, lambda: torch.randn(NUM, 5, 6), labels, F.cross_entropy),
    "attention": (
        Attention,
        lambda: torch.randint(11, (NUM, 7)),
        lambda: torch.randint(11, (NUM, 7)),
        next_token,
    ),
    "by batch": (Convolutional, lambda: torch.randn(NUM, 1, 12, 12), labels, mean_error),
    "branching": (Branching, lambda: torch.randn(NUM, 6), labels, F.cross_entropy),
}


def trained(name: str) -> tuple[nn.Module, Any, tuple[Tensor, Tensor]]:
    """A network after a few steps of training on the CPU, the same at every call."""
    torch.manual_seed(0)
    make, inputs, targets, loss_fn = CASES[name]
    model, data = make(), (inputs(), targets())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss_fn(model.train()(data[0]), data[1]).backward()
        optimizer.step()
    return model.eval(), loss_fn, data


def solver(name: str, device: str, **options: Any) -> bv.RaySolver:
    model, loss_fn, data = trained(name)
    cutoff = float(loss_fn(model(data[0]), data[1]).detach()) + 0.1
    landscape = bv.Landscape(model, loss_fn, data, device=device, batch_size=BATCH)
    directions = bv.Directions(bv.ParameterSpace.of(model), 40)
    return bv.RaySolver(landscape, directions, [cutoff], backend="torch", **options)


def losses(name: str, device: str, dtype: torch.dtype, ray: int, radii: list[float]) -> list[float]:
    """The model's own loss along a ray, in all examples at once, without TF32."""
    model, loss_fn, data = trained(name)
    space = bv.ParameterSpace.of(model)
    move = space.unflatten(bv.Directions(space, 40).materialize([ray])[0] * space.scale(model))
    inputs, targets = (part.to(device) for part in data)
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    found = []
    for radius in radii:
        moved = copy.deepcopy(model).to(device, dtype)
        with torch.no_grad(), full_precision():
            for key, parameter in moved.named_parameters():
                parameter.add_(move[key].to(device, dtype), alpha=radius)
            found.append(float(loss_fn(moved(inputs), targets).double()))
    return found


@pytest.fixture(params=["1", "0"], ids=["graphs", "no graphs"])
def graphs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("BASINVOL_CUDA_GRAPHS", request.param)
    return request.param == "1"


@pytest.mark.parametrize("resolve", ["all", "decisive"])
@pytest.mark.parametrize("name", CASES)
def test_brackets_hold_in_float64(name: str, resolve: str, graphs: bool) -> None:
    used = solver(name, "cuda", resolve=resolve, rtol=1e-4)
    assert used.description.endswith("CUDA graphs") == (graphs and name != "branching"), used.description
    radii = used.solve_all().at()
    crossed = radii.is_status(bv.Status.CROSSED).nonzero().flatten().tolist()
    assert len(crossed) >= (len(radii) if resolve == "all" else 4)
    errors, outside_by = [], []
    for ray in crossed[:12]:
        ends = [float(radii.lower[ray]), float(radii.upper[ray])]
        exact = losses(name, "cpu", torch.float64, ray, ends)
        rough = losses(name, "cuda", torch.float32, ray, ends)
        errors += [abs(a - b) for a, b in zip(exact, rough, strict=True)]
        outside_by += [exact[0] - used.problem.cutoffs[0], used.problem.cutoffs[0] - exact[1]]
    assert max(outside_by) <= 2.0 * max(errors), (max(outside_by), max(errors))


@pytest.mark.parametrize("resolve", ["all", "decisive"])
@pytest.mark.parametrize("name", CASES)
def test_radii_are_those_of_the_cpu(name: str, resolve: str) -> None:
    found, expected = (solver(name, device, resolve=resolve, rtol=1e-3).solve_all().at() for device in ("cuda", "cpu"))
    known = ~(found.is_status(bv.Status.NEGLIGIBLE) | expected.is_status(bv.Status.NEGLIGIBLE))
    assert int(known.sum()) >= 4
    torch.testing.assert_close(found.radius[known], expected.radius[known], rtol=3e-3, atol=0.0)


@pytest.mark.parametrize("name", ["convolutions", "recurrent", "attention", "by batch"])
def test_graphs_change_no_result(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for setting in ("1", "0"):
        monkeypatch.setenv("BASINVOL_CUDA_GRAPHS", setting)
        found.append(solver(name, "cuda", rtol=1e-4).solve_all().at())
    torch.testing.assert_close(found[0].radius, found[1].radius, rtol=2e-4, atol=0.0)
    assert torch.equal(found[0].status_code, found[1].status_code)


@pytest.mark.parametrize("make", [Branching, Waiting])
def test_the_device_is_well_after_a_model_that_could_not_be_captured(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CASES, "waiting", (make, *CASES["branching"][1:]))
    used = solver("waiting", "cuda")
    used.solve_all()
    assert not used.description.endswith("CUDA graphs")
    torch.rand(3, device="cuda")
    F.dropout(torch.ones(3, device="cuda"))
    torch.cuda.empty_cache()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.cuda.get_sync_debug_mode() == 0
    assert solver("convolutions", "cuda").description.endswith("CUDA graphs")


def test_other_parameters_are_left_alone() -> None:
    model, loss_fn, data = trained("recurrent")
    model, data = model.cuda(), tuple(part.cuda() for part in data)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}
    space = bv.ParameterSpace.of(model, include=["head.*"])
    cutoff = float(loss_fn(model(data[0]), data[1]).detach()) + 0.1
    landscape = bv.Landscape(model, loss_fn, data, batch_size=BATCH)
    used = bv.RaySolver(landscape, bv.Directions(space, 8), [cutoff], backend="torch")
    assert bool(used.solve_all().is_status(bv.Status.CROSSED).all())
    for name, p in model.named_parameters():
        assert p.data_ptr() == before[name][0]
        assert torch.equal(p, before[name][1])
    assert float(landscape.losses()) == pytest.approx(cutoff - 0.1, rel=1e-4)


@pytest.mark.parametrize("generator", ["philox", "legacy"])
def test_a_direction_has_the_bits_of_the_cpu(generator: str) -> None:
    model = trained("attention")[0]
    directions = bv.Directions(bv.ParameterSpace.of(model), 40, seed=9, generator=generator)
    on_cpu, on_device = (torch.empty(directions.space.dim, device=device) for device in ("cpu", "cuda"))
    by_cpu, by_device = unit_vector_into(on_cpu, directions), unit_vector_into(on_device, directions)
    for index in (0, 39):
        assert by_device(index) == pytest.approx(by_cpu(index), rel=1e-12)
        if generator == "philox":
            assert torch.equal(on_device.cpu(), on_cpu)
        else:  # divided by a norm that torch sums in another order
            torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("fails", [False, True], ids=["measured", "failed"])
def test_the_settings_of_the_user_come_back(fails: bool) -> None:
    calls = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):  # not while the loss is traced, which computes nothing
            calls.append(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)
        if fails and len(calls) > 25:
            raise RuntimeError("out of memory")
        return mean_error(outputs, targets)

    model, _, data = trained("convolutions")
    torch.set_float32_matmul_precision("high")
    try:
        landscape = bv.Landscape(model, loss, data, device="cuda", batch_size=BATCH)
        cutoff = float(landscape.losses()) + 0.1
        used = bv.RaySolver(landscape, bv.Directions(bv.ParameterSpace.of(model), 8), [cutoff], backend="reference")
        if fails:
            with pytest.raises(RuntimeError, match="out of memory"):
                used.solve_all()
        else:
            used.solve_all()
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        assert calls
        assert not any(calls)
    finally:
        torch.set_float32_matmul_precision("highest")
