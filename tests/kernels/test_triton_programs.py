"""Networks as programs on a device, against the programs of the CPU; on the interpreter where there is no GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("triton", reason="triton is not installed on this platform")

from triton.errors import TritonError

import basinvol as bv
from basinvol.backends.native import ProgramEngine
from basinvol.backends.program.lowering import lower
from basinvol.backends.program.program import Program
from basinvol.backends.program.source import copied_to_cpu
from basinvol.backends.pytorch.engine import TorchEngine
from basinvol.backends.triton import memory as device_memory
from basinvol.backends.triton.engine import DeviceEngine
from basinvol.backends.triton.program.layout import Layout, with_plain_weights
from basinvol.backends.triton.program.network import ProgramNetwork
from basinvol.search.radii import Radii, Status

# The interpreter computes with numpy, which warns of overflow, infinities and NaN where a device does not.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NUM = 12
BYTES = ("lower", "upper", "radius", "value_lower", "value_upper", "slope", "status_code", "num_evaluations")


class Convolutions(nn.Module):
    """Two convolutions, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, groups=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        return self.head(F.gelu(self.second(x)).mean(dim=(2, 3)))


class Residual(nn.Module):
    """Batch norm with statistics, and a branch that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4)
        self.short, self.head = nn.Conv2d(2, 4, 1, stride=2, bias=False), nn.Linear(4, 3, bias=False)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.first(x)) + self.short(x)).mean(dim=(2, 3)))


class Transformer(nn.Module):
    """An embedding that the output shares, causal attention, layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attend, self.norm = nn.Embedding(7, 8), nn.Linear(8, 24, bias=False), nn.LayerNorm(8)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        q, k, v = self.attend(self.norm(x)).view(*tokens.shape, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return F.linear(x + mixed, self.embed.weight)


def next_token(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=0)


def images() -> Tensor:
    return torch.randn(NUM, 2, 8, 8)


def labels() -> Tensor:
    return torch.arange(NUM) % 3


def tokens() -> Tensor:
    return torch.randint(7, (3, 5))


NETWORKS = {
    "convolutions": (Convolutions, lambda: (images(), labels()), F.cross_entropy),
    "residual": (Residual, lambda: (images(), labels()), nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]))),
    "transformer": (Transformer, lambda: (tokens(), tokens()), next_token),
    "one convolution": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(27, 3)),
        lambda: (torch.randn(NUM, 2, 4, 4), labels()),
        F.cross_entropy,
    ),
    "squared errors": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 2)),
        lambda: (torch.randn(NUM, 4), torch.randn(NUM, 2)),
        F.mse_loss,
    ),
}


def landscape_of(name: str, device: str = _DEVICE, levels: list[int] | None = None) -> bv.Landscape:
    """A network at random parameters, the same at every call."""
    torch.manual_seed(1)
    make, data, loss_fn = NETWORKS[name]
    return bv.Landscape(make().eval(), loss_fn, data(), levels=levels, device=device)


def solver_of(landscape: bv.Landscape, above: float = 0.2, count: int = 2, **options: object) -> bv.RaySolver:
    # Legacy normals, which the interpreter need not generate.
    directions = bv.Directions(bv.ParameterSpace.of(landscape.model), count, generator="legacy")
    cutoff = float(landscape.losses().max()) + above
    return bv.RaySolver(landscape, directions, [cutoff], **{"backend": "triton", "rtol": 1e-3, **options})


def assert_same_bytes(found: Radii, expected: Radii) -> None:
    for name in BYTES:
        assert getattr(found, name).numpy().tobytes() == getattr(expected, name).numpy().tobytes(), name


def losses_at(landscape: bv.Landscape, directions: bv.Directions, radius: Tensor, dtype: torch.dtype) -> Tensor:
    """The mean loss of all examples at center + radius[i] moves[i]. [D] float64"""
    model = copy.deepcopy(landscape.model).to(dtype)
    space, found = directions.space, []
    moves = directions.materialize(range(len(radius)), torch.float64) * space.scale(landscape.model).cpu().double()
    given = landscape.inputs.to(dtype) if landscape.inputs.is_floating_point() else landscape.inputs
    targets = landscape.targets.to(dtype) if landscape.targets.is_floating_point() else landscape.targets
    loss_fn = copy.deepcopy(landscape.loss_fn)
    loss_fn = loss_fn.to(dtype) if isinstance(loss_fn, nn.Module) else loss_fn
    center = space.flatten(landscape.model).cpu()
    for at, move in zip(radius.tolist(), moves, strict=True):
        named = space.unflatten((center + (at * move).to(center.dtype)).to(given.device))
        with torch.no_grad():
            values = {name: value.to(dtype) for name, value in named.items()}
            outputs = torch.func.functional_call(model, values, (given,))
            found.append(loss_fn(outputs, targets).double().cpu())
    return torch.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutions", "residual", "transformer", "squared errors"])
def test_radii_are_those_of_the_programs_of_the_cpu(name: str) -> None:
    levels = [5, NUM] if name == "squared errors" else None
    # The interpreter takes longest for attention.
    options = {"count": 1, "rtol": 0.1} if name == "transformer" else {"count": 2}
    ours = solver_of(landscape_of(name, levels=levels), **options)
    theirs = solver_of(landscape_of(name, "cpu", levels), **options, backend="native")
    assert isinstance(ours.engine, DeviceEngine)
    assert isinstance(theirs.engine, ProgramEngine)
    assert "tf32x3, a program of" in ours.description
    torch.testing.assert_close(ours.engine.center_losses, theirs.engine.center_losses, rtol=1e-6, atol=1e-7)
    found, expected = ours.solve_all(), theirs.solve_all()
    assert torch.equal(found.status_code, expected.status_code)
    crossed = found.is_status(Status.CROSSED)
    assert bool(crossed.all())
    assert bool((found.lower <= expected.upper).all())
    assert bool((expected.lower <= found.upper).all())
    torch.testing.assert_close(found.radius, expected.radius, rtol=1e-5, atol=0.0)
    landscape, directions = landscape_of(name, "cpu", levels), ours.engine._problem.directions
    for radius, value, sign in ((found.lower, found.value_lower, 1.0), (found.upper, found.value_upper, -1.0)):
        exact, rough = (
            losses_at(landscape, directions, radius[-1, 0], kind) for kind in (torch.float64, torch.float32)
        )
        noise = 2.0 * float((rough - exact).abs().max()) + 2.0**-22 * found.cutoffs[0]
        assert float((value[-1, 0] - exact).abs().max()) <= noise
        assert bool((sign * (exact - found.cutoffs[0]) <= noise).all()), "a certificate that float64 does not confirm"


def test_directions_are_those_of_the_generator() -> None:
    found, expected = (
        bv.find_radii(
            landscape, bv.Directions(bv.ParameterSpace.of(landscape.model), 1), [2.0], backend=backend, rtol=0.01
        )
        for landscape, backend in (
            (landscape_of("squared errors"), "triton"),
            (landscape_of("squared errors", "cpu"), "native"),
        )
    )
    torch.testing.assert_close(found.radius, expected.radius, rtol=1e-5, atol=0.0)


@pytest.fixture
def _fixed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of the interpreter in which a row has the same bits wherever it stands, which BLAS does not promise."""

    def product_by_columns(a, b, dtype=None, **_: object):
        return (a[:, :, None] * b[None]).sum(axis=1, dtype=dtype)

    monkeypatch.setattr("numpy.matmul", product_by_columns)


@pytest.mark.slow
@pytest.mark.usefixtures("_fixed_order")
@pytest.mark.parametrize("name", ["one convolution", "squared errors"])
def test_bytes_do_not_depend_on_how_many_directions_or_examples_run_together(name: str, monkeypatch) -> None:
    def solver(**options: object) -> bv.RaySolver:
        return solver_of(landscape_of(name, levels=[5, NUM]), count=3, rtol=0.5, **options)

    whole = solver()
    expected = whole.solve_all()
    network = whole.engine._network.program
    assert network.rows_at_once(3) == NUM
    # Two directions at a time, and examples in chunks of four.
    layout = network._layout
    monkeypatch.setattr(device_memory, "_DEFAULT_SCRATCH", 4 * 5 * (2 * layout.block_size + layout.shared_size))
    monkeypatch.setattr("basinvol.backends.triton.program.device_program._LEAST_ROWS", 4)
    small = solver()
    assert small.engine.step == 2
    assert small.engine._network.program.rows_at_once(2) == 4
    assert_same_bytes(small.solve_all(), expected)


@pytest.mark.slow
def test_rays_that_are_skipped_were_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basinvol.rays.pilot.STAGES", (4,))  # fewer rays in full, for time
    monkeypatch.setattr("basinvol.rays.pilot.NUM_SPREAD", 4)
    name, count = "squared errors", 14
    decisive = solver_of(landscape_of(name), count=count, resolve="decisive").solve_all()
    everything = solver_of(landscape_of(name, "cpu"), count=count, backend="native").solve_all()
    skipped = decisive.is_status(Status.NEGLIGIBLE)
    assert 0 < int(skipped.sum()) < count
    assert bool((everything.lower <= decisive.upper)[skipped].all())
    assert bool((decisive.value_upper > decisive.cutoffs[0])[skipped].all())
    assert torch.allclose(decisive.radius[~skipped], everything.radius[~skipped], rtol=2e-3)


@pytest.mark.slow
def test_losses_that_may_be_negative_are_not_proved_by_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets beyond 0 and 1: the sum of the hardest examples proves nothing."""
    monkeypatch.setattr("basinvol.rays.pilot.STAGES", (4,))
    monkeypatch.setattr("basinvol.rays.pilot.NUM_SPREAD", 4)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 2))
    data = torch.randn(NUM, 4), 3.0 * torch.rand(NUM, 2)
    landscape = bv.Landscape(model, F.binary_cross_entropy_with_logits, data, device=_DEVICE)
    solver = solver_of(landscape, count=6, resolve="decisive", above=1.0, rtol=0.1)
    assert not solver.engine._network.is_nonnegative
    taken = []
    rays_of = ProgramNetwork.rays

    def noted(network: ProgramNetwork, directions: object, rows: Tensor | None = None) -> object:
        taken.append(rows)
        return rays_of(network, directions, rows)

    monkeypatch.setattr(ProgramNetwork, "rays", noted)
    solver.solve_all()
    assert all(rows is None for rows in taken)


def test_weights_are_read_where_they_lie_and_copied_where_they_do_not() -> None:
    landscape = landscape_of("convolutions", "cpu")
    space = bv.ParameterSpace.of(landscape.model)
    program = lower(landscape, space)
    plain = with_plain_weights(program.instructions)
    assert {i.op for i in program.instructions} - {i.op for i in plain} == {"pack"}
    # The 3 x 3 weights of one convolution, and of both groups of the other; the last layer's is used as it is.
    assert sum(i.op == "copy" and i.stage == 1 for i in plain) == 3
    head = next(i for i in plain if i.op == "product")
    assert head.inputs[1].value.buffer.is_fixed


def test_what_does_not_depend_on_the_parameters_is_shared_by_directions() -> None:
    landscape = landscape_of("convolutions", "cpu")
    space = bv.ParameterSpace.of(landscape.model)
    layout = Layout.of(lower(landscape, space), space)
    shared = [i.op for i in layout.instructions if i.stage == 2 and i.output.value.buffer not in layout.varying]
    assert shared == ["copy"], "images are laid out with channels last once"
    assert all(buffer not in layout.varying for buffer in layout.fields)
    assert [place.at % 16 for place in layout.places] == [0] * len(space.names)


def test_a_copy_on_the_cpu_gives_the_same_program() -> None:
    landscape = landscape_of("residual", "cpu")
    space = bv.ParameterSpace.of(landscape.model)
    source = copied_to_cpu(landscape)
    assert source.loss_fn is not landscape.loss_fn
    own, copied = (lower(given, space) for given in (landscape, source))
    assert described(own) == described(copied)
    assert torch.equal(own.constants, copied.constants)
    assert torch.equal(own.weights, copied.weights)


def described(program: Program) -> object:
    return program.describe()["instructions"]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, object], str]] = {
    "operation": (Recurrent, {}, r"as a program aten\.gru\.input is not an operation that programs have"),
    "precision": (Convolutions, {"precision": "tf32"}, "as a program it is multiplied in tf32x3 or fp32, not in tf32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_program_is_refused_by_name(name: str) -> None:
    make, options, reason = REFUSED[name]
    inputs = torch.randn(NUM, 4, 2) if make is Recurrent else images()
    landscape = bv.Landscape(make(), F.cross_entropy, (inputs, labels()), device=_DEVICE)
    with pytest.raises(bv.BackendUnavailable, match=f"'triton' cannot be used: .*{reason}"):
        solver_of(landscape, **options)


def test_a_program_with_other_losses_on_the_device_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basinvol.backends.triton.program.launches.LOSSES", ("cross_entropy", "mse", "l1", "l1", "mse"))
    with pytest.raises(bv.BackendUnavailable, match=r"the traced operations give the loss \S+ where the model gives"):
        solver_of(landscape_of("squared errors"))


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(bv.BackendUnavailable, match=r"one direction needs 0\.00 GiB on .* choose backend='torch'\.$"):
        solver_of(landscape_of("squared errors"), memory_budget=64)
    monkeypatch.setattr(device_memory, "_DEFAULT_KEPT", 64)
    monkeypatch.setattr("basinvol.backends.triton.program.device_program.kept_bytes", lambda device, budget: 64)
    with pytest.raises(bv.BackendUnavailable, match=r"as a program one direction needs 0\.00 GiB"):
        solver_of(landscape_of("squared errors"))


def test_auto_leaves_programs_on_a_device_to_torch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basinvol.backends.native.NativeBackend.unusable", lambda self, device: "it is not asked for")
    solver = solver_of(landscape_of("convolutions"), backend="auto")
    assert isinstance(solver.engine, TorchEngine)
    assert "as a program it may run there, with backend='triton'" in solver.choice.reason


@pytest.mark.parametrize(
    ("raised", "shown", "message"),
    [
        (TritonError("no such instruction\nand more"), bv.BackendUnavailable, r"do not run on .* instruction\)"),
        (TypeError("a fault of ours"), TypeError, "^a fault of ours$"),
    ],
)
def test_kernels_that_do_not_compile_are_refused_and_faults_are_not_hidden(
    raised: Exception, shown: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise raised

    monkeypatch.setattr("basinvol.backends.triton.program.checked.compare", fail)
    with pytest.raises(shown, match=message):
        solver_of(landscape_of("squared errors"))
