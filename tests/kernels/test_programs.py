"""Networks as programs: losses that are as exact as torch's, and bytes that depend on the problem alone."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.extension import compiled_extension
from basinvol.backends.native import ProgramEngine
from basinvol.backends.program.operations import RULES
from basinvol.backends.program.operations.elementwise import PLAIN
from basinvol.backends.pytorch.engine import TorchEngine

NUM = 20


class Applied(nn.Module):
    """A linear map to some shape, a function, and a linear map of all that comes out."""

    def __init__(self, function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.function, self.shape = function, shape
        self.first = nn.Linear(6, int(torch.tensor(shape).prod()))
        with torch.no_grad():
            width = function(torch.zeros(2, *shape)).flatten(1).shape[1]
        self.last = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x).view(-1, *self.shape)).flatten(1))


VECTOR, IMAGE, SEQUENCE = (9,), (5, 6, 7), (4, 6)
# Functions of one value: its shape without the examples, and the function.
OPERATIONS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    **{
        name: (VECTOR, function)
        for name, function in {
            "relu": F.relu,
            "relu in place": lambda x: F.relu(x + 0.1, inplace=True),
            "gelu": F.gelu,
            "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
            "silu": F.silu,
            "sigmoid": torch.sigmoid,
            "tanh": torch.tanh,
            "leaky relu": lambda x: F.leaky_relu(x, 0.3),
            "elu": F.elu,
            "softplus": F.softplus,
            "mish": F.mish,
            "relu6": F.relu6,
            "hardtanh": F.hardtanh,
            "hardswish": F.hardswish,
            "hardsigmoid": F.hardsigmoid,
            "log of sigmoid": F.logsigmoid,
            "exp": torch.exp,
            "log and root": lambda x: torch.log(x.abs() + 1.0) + torch.sqrt(x * x + 1.0),
            "powers": lambda x: x**2 - x**3 / 5.0 + torch.rsqrt(x**2 + 2.0),
            "sine": lambda x: torch.sin(x) * torch.cos(x) - torch.erf(x),
            "scalars": lambda x: 2.0 - (3.0 * x - 1.0) / 4.0 + (-x).clamp(min=-0.5),
            "extremes": lambda x: torch.maximum(x, -0.5 * x) + torch.minimum(x, x * x),
            "glu": lambda x: torch.cat([x[:, :4] * torch.sigmoid(x[:, 4:8]), x[:, 8:]], dim=1),
            "softmax": lambda x: F.softmax(x, dim=1),
            "log softmax": lambda x: F.log_softmax(x, dim=-1),
            "padded": lambda x: F.pad(x, (1, 2), value=0.5),
            "masked": lambda x: x.masked_fill(torch.arange(9) % 2 == 0, 0.25),
            "chosen": lambda x: torch.where(torch.arange(9) < 4, x, -2.0 * x),
        }.items()
    },
    **{
        name: (IMAGE, function)
        for name, function in {
            "largest of windows": lambda x: F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True),
            "mean of windows": lambda x: F.avg_pool2d(x, (2, 3), stride=(2, 1), padding=(1, 0)),
            "mean of what is there": lambda x: F.avg_pool2d(x, 2, padding=1, count_include_pad=False),
            "adaptive": lambda x: F.adaptive_avg_pool2d(x, (4, 2)),
            "mean of an image": lambda x: x.mean(dim=(2, 3)),
            "mean of a dimension": lambda x: x.mean(dim=1, keepdim=True) + x.sum(dim=-1, keepdim=True),
            "largest of a dimension": lambda x: x.amax(dim=2),
            "group norm": lambda x: F.group_norm(x, 1, torch.linspace(0.5, 2, 5).to(x)),
            "gates": lambda x: x * torch.sigmoid(x.mean(dim=(2, 3)))[:, :, None, None],
            "turned": lambda x: x.permute(0, 3, 1, 2).reshape(len(x), 7, 30).transpose(1, 2).contiguous(),
            "parts": lambda x: torch.stack([part.squeeze(1) for part in x[:, 1:4].split(1, dim=1)], dim=-1),
        }.items()
    },
    **{
        name: (SEQUENCE, function)
        for name, function in {
            "layer norm": lambda x: F.layer_norm(x, (6,), torch.linspace(0.5, 2, 6).to(x)),
            "layer norm of turned rows": lambda x: F.layer_norm(x.view(-1, 4, 2, 3).transpose(1, 2), (3,)),
            "softmax of turned rows": lambda x: F.softmax(x.view(-1, 4, 2, 3).transpose(1, 2), dim=-1),
            "layer norm of all": lambda x: F.layer_norm(x, (4, 6)),
            "rms norm": lambda x: F.rms_norm(x, (6,), torch.linspace(0.5, 2, 6).to(x)),
            "full attention": lambda x: F.scaled_dot_product_attention(x, 2.0 * x, x, scale=0.7),
            "causal attention": lambda x: F.scaled_dot_product_attention(
                *x.view(-1, 4, 2, 3).transpose(1, 2).unsqueeze(0).expand(3, -1, -1, -1, -1), is_causal=True
            ),
            "masked attention": lambda x: F.scaled_dot_product_attention(
                x, x, x, attn_mask=torch.ones(4, 4, dtype=torch.bool).tril(1)
            ),
            "attention with distances": lambda x: F.scaled_dot_product_attention(
                x, x, x, attn_mask=-torch.arange(4.0).expand(4, 4)
            ),
            "product of values": lambda x: torch.softmax(x @ x.transpose(1, 2) / 3.0, dim=-1) @ x,
            "first position": lambda x: x[:, 0] + x[:, -1],
            "with a constant token": lambda x: torch.cat(
                [torch.ones(1, 1, 6).expand(x.shape[0], -1, -1).to(x), x], dim=1
            ),
        }.items()
    },
}


class Residual(nn.Module):
    """Strides, padding, batch norm with statistics, and a branch that is added."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1, groups=groups), nn.BatchNorm2d(8)
        self.short, self.head = nn.Conv2d(3, 8, 1, stride=2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.second(F.relu(self.norm(self.first(x)))))
        return self.head(F.gelu(y + self.short(x)).mean(dim=(2, 3)))


class Gpt(nn.Module):
    """Positions, causal attention, layer norm, and an output that shares its weight with the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.positions, self.norm = nn.Embedding(11, 8), nn.Embedding(6, 8), nn.LayerNorm(8)
        self.attend, self.head = nn.Linear(8, 24), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.positions(torch.arange(tokens.shape[1]))
        q, k, v = self.attend(self.norm(x)).view(*tokens.shape, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return self.head(x + mixed)


class Vision(nn.Module):
    """Patches, a class token, torch's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 3)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 5, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu", norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.encoder(x)[:, 0])


class TimeFirst(nn.Module):
    """Attention of torch with the examples in the second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        return self.head(self.attention(x, x, x)[0].mean(dim=0))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep = nn.Conv2d(3, 20, 1), nn.Conv2d(20, 20, 3, stride=2, padding=1, groups=20)
        self.norm, self.narrow, self.head = nn.BatchNorm2d(20), nn.Conv2d(20, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.deep(F.relu6(self.wide(x)))))
        return self.head(F.adaptive_avg_pool2d(self.narrow(x), 1).flatten(1))


class Dense(nn.Module):
    """Values put side by side, and dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(8, 6, 3, padding=2, dilation=2)
        self.head = nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, F.relu(self.first(x))], dim=1)
        return self.head(torch.cat([x, F.silu(self.second(x))], dim=1).mean(dim=(2, 3)))


class Speaking(nn.Module):
    """As models of Hugging Face: a batch by name, padding that is not attended to, the loss in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attend, self.head = nn.Embedding(11, 8), nn.Linear(8, 24), nn.Linear(8, 11)
        self.types = nn.Embedding(2, 8)
        self.register_buffer("one_type", torch.ones(1, 16, dtype=torch.int64))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> SimpleNamespace:
        x = self.embed(input_ids) + self.types(self.one_type[:, : input_ids.shape[1]].expand(len(input_ids), -1))
        q, k, v = self.attend(x).chunk(3, dim=-1)
        mask = attention_mask[:, None, :].bool()
        logits = self.head(x + F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        shifted = F.pad(labels, (0, 1), value=-100)[:, 1:].contiguous()
        return SimpleNamespace(loss=F.cross_entropy(logits.view(-1, 11), shifted.view(-1)))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.first(x) + F.silu(self.second(y))


def weight_norm() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 9), nn.SiLU(), nn.Linear(9, 3))
    nn.utils.parametrizations.weight_norm(model[0])
    return model


def next_token(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=0)


def images() -> Tensor:
    return torch.randn(NUM, 3, 9, 9)


def vectors() -> Tensor:
    return torch.randn(NUM, 6)


def tokens() -> Tensor:
    return torch.randint(11, (NUM, 6))


def labels() -> Tensor:
    return torch.arange(NUM) % 3


def batch() -> dict[str, Tensor]:
    ids, mask = tokens(), torch.ones(NUM, 6, dtype=torch.int64)
    mask[::2, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask == 1, ids, -100)}


def perceptron(*activations: nn.Module, outputs: int = 3) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(6, 9), *copy.deepcopy(activations), nn.Linear(9, outputs))


Case = tuple[Callable[[], nn.Module], Callable[[], Any], Any]
NETWORKS: dict[str, Case] = {
    "residual": (Residual, lambda: (images(), labels()), F.cross_entropy),
    "groups": (lambda: Residual(4), lambda: (images(), labels()), nn.CrossEntropyLoss(label_smoothing=0.1)),
    "gpt": (Gpt, lambda: (tokens(), tokens()), next_token),
    "vision transformer": (Vision, lambda: (images()[:, :, :8, :8], labels()), F.cross_entropy),
    "time first": (TimeFirst, lambda: (torch.randn(NUM, 5, 8), labels()), F.cross_entropy),
    "depthwise": (Depthwise, lambda: (images(), labels()), nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]))),
    "dense": (Dense, lambda: (images(), labels()), lambda o, t: F.nll_loss(F.log_softmax(o, dim=1), t)),
    "dictionary": (Speaking, batch, None),
    "two inputs": (Two, lambda: ((vectors(), torch.randn(NUM, 4)), labels()), F.cross_entropy),
    "weight norm": (weight_norm, lambda: (vectors(), torch.randn(NUM, 3)), nn.SmoothL1Loss(beta=0.3)),
    "layer norm": (perceptron(nn.LayerNorm(9), nn.ReLU()), lambda: (vectors(), torch.randn(NUM, 3)), F.huber_loss),
    "batch norm": (
        perceptron(nn.BatchNorm1d(9), nn.Sigmoid(), outputs=1),
        lambda: (vectors(), torch.rand(NUM, 1)),
        F.binary_cross_entropy_with_logits,
    ),
    "sequence": (
        lambda: nn.Sequential(
            *(nn.Conv1d(2, 8, 3, padding="same"), nn.Tanh(), nn.MaxPool1d(2), nn.Conv1d(8, 6, 2, stride=2)),
            *(nn.Softplus(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)),
        ),
        lambda: (torch.randn(NUM, 2, 12), labels()),
        F.cross_entropy,
    ),
    "segmentation": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 3, 1)),
        lambda: (images(), torch.randint(3, (NUM, 9, 9))),
        F.cross_entropy,
    ),
    "autoencoder": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Hardtanh(), nn.Conv2d(6, 3, 3, padding=1)),
        lambda: (images(),) * 2,
        lambda outputs, targets: F.l1_loss(outputs, targets),
    ),
    **{
        name: (
            lambda shape=shape, function=function: Applied(function, shape),
            lambda: (vectors(), labels()),
            F.cross_entropy,
        )
        for name, (shape, function) in OPERATIONS.items()
    },
}


def landscape_of(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> bv.Landscape:
    """A network at random parameters with statistics of its own, the same at every call."""
    torch.manual_seed(0)
    make, data, loss_fn = NETWORKS[name]
    model, given = make().eval(), data()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)

    def cast(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.to(dtype) if part.is_floating_point() else part
        return {k: cast(v) for k, v in part.items()} if isinstance(part, dict) else tuple(cast(v) for v in part)

    if isinstance(loss_fn, nn.Module):
        loss_fn = copy.deepcopy(loss_fn).to(dtype)
    return bv.Landscape(model.to(dtype), loss_fn, cast(given), **options)


def solver_of(landscape: bv.Landscape, above: float = 0.3, count: int = 9, **options: Any) -> bv.RaySolver:
    directions = bv.Directions(bv.ParameterSpace.of(landscape.model), count)
    cutoff = float(landscape.losses().max()) + above
    return bv.RaySolver(landscape, directions, [cutoff], **{"backend": "native", **options})


def losses_along(landscape: bv.Landscape, moves: Tensor) -> Tensor:
    """The loss of every example, times its weight, at the center plus each move. [n, N] float64

    All examples go through the network together, as they do for users: torch's product of a matrix and one example sums
    in another order, on some processors with half the error.
    """
    space, count = bv.ParameterSpace.of(landscape.model), landscape.num_examples
    center = space.flatten(landscape.model)

    def of_all(named: dict[str, Tensor]) -> list[float]:
        outputs = landscape.outputs_at(named, 0, count)
        if not isinstance(outputs, Tensor) or len(outputs) != count:
            return [float(landscape.loss_at(named, i, i + 1)) for i in range(count)]
        return [float(landscape.loss_of_outputs(named, outputs[i : i + 1], i, i + 1)) for i in range(count)]

    with landscape.measuring():
        return torch.tensor([of_all(space.unflatten(center + move.to(center.dtype))) for move in moves]).double()


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_of_examples_are_as_exact_as_those_of_torch(name: str) -> None:
    """The error against float64 is at most twice that of torch in float32, over all examples of three rays."""
    landscape = landscape_of(name)
    solver = solver_of(landscape, num_threads=1)
    engine = solver.engine
    assert isinstance(engine, ProgramEngine)
    directions = engine._problem.directions
    radius = 0.05 * directions.space.dim**0.5
    scale = directions.space.scale(landscape.model)
    moves = radius * directions.materialize(range(3), torch.float64) * scale.double()
    weights = engine._program.weights
    found = torch.tensor([engine._engine.row_losses(directions.seed, ray, None, radius) for ray in range(3)])
    exact = losses_along(landscape_of(name, torch.float64), moves)
    plain = losses_along(landscape, moves)
    counts = weights > 0
    ours, theirs = ((part[:, counts] - exact[:, counts]).square().mean().sqrt() for part in (found / weights, plain))
    assert float(ours) <= 2 * float(theirs) + 1e-8


@pytest.mark.parametrize("name", ["residual", "gpt", "dictionary", "two inputs"])
def test_radii_are_those_of_the_reference(name: str) -> None:
    ours, theirs = (
        solver_of(landscape_of(name, levels=[7, NUM]), backend=backend).solve_all()
        for backend in ("native", "reference")
    )
    assert torch.equal(ours.status_code, theirs.status_code)
    assert torch.allclose(ours.radius, theirs.radius, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "groups", "vision transformer", "dictionary"])
@pytest.mark.parametrize("resolve", ["all", "decisive"])
def test_threads_blocks_and_memory_change_no_byte(name: str, resolve: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = solver_of(landscape_of(name, levels=[7, NUM]), count=40, resolve=resolve, num_threads=1)
    expected = usual.solve_all()
    for options in ({"num_threads": 3}, {"num_threads": 3, "memory_budget": 1}):
        found = solver_of(landscape_of(name, levels=[7, NUM]), count=40, resolve=resolve, **options).solve_all()
        assert found.lower.nan_to_num().equal(expected.lower.nan_to_num())
        assert found.value_upper.nan_to_num().equal(expected.value_upper.nan_to_num())
    if resolve == "all":  # a proof stops after a block, so that its bound is another one
        monkeypatch.setattr("basinvol.backends.program.program._FLOATS_OF_A_BLOCK", 1)
        other = solver_of(landscape_of(name, levels=[7, NUM]), count=40, resolve=resolve)
        assert other.description != usual.description
        assert other.solve_all().lower.equal(expected.lower)


@pytest.mark.parametrize("name", ["residual", "gpt"])
def test_rays_that_are_skipped_were_short(name: str) -> None:
    everything, decisive = (
        solver_of(landscape_of(name), above=0.1, count=90, resolve=resolve).solve_all()
        for resolve in ("all", "decisive")
    )
    skipped = decisive.is_status(bv.Status.NEGLIGIBLE)
    assert bool(skipped.any())
    assert bool((everything.radius <= decisive.upper)[skipped].all())
    assert torch.allclose(decisive.radius[~skipped], everything.radius[~skipped], rtol=2e-3)


@pytest.mark.parametrize("instruction_set", compiled_extension().instruction_sets())
@pytest.mark.parametrize("name", ["residual", "groups", "depthwise", "vision transformer", "gelu", "softmax"])
def test_every_instruction_set_gives_the_same_losses(name: str, instruction_set: str) -> None:
    landscape = landscape_of(name)
    solver = solver_of(landscape, num_threads=1)
    usual = solver.engine
    assert isinstance(usual, ProgramEngine)
    given = compiled_extension().Resources(1, 2**30, instruction_set)
    space = usual._problem.directions.space
    scale = space.scale(landscape.model).numpy()
    other = compiled_extension().ProgramRays(usual._program.describe(), [NUM], scale, list(space.sizes), given)
    assert other.instruction_set() == instruction_set
    losses = [torch.tensor(engine.row_losses(0, 1, None, 1.0)) for engine in (usual._engine, other)]
    assert torch.allclose(*losses, rtol=1e-4, atol=1e-6)


def test_a_model_is_left_as_it_was() -> None:
    landscape = landscape_of("residual")
    landscape.model.train()
    before = copy.deepcopy(landscape.model.state_dict())
    state = torch.get_rng_state()
    solver_of(landscape).solve_all()
    assert landscape.model.training
    assert torch.equal(torch.get_rng_state(), state)
    after = landscape.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_frozen_parameters_are_constants() -> None:
    radii = []
    for backend in ("native", "reference"):
        landscape = landscape_of("residual")
        space = bv.ParameterSpace.of(landscape.model, include=["head*", "second*"])
        directions = bv.Directions(space, 5)
        cutoff = float(landscape.losses()[0]) + 0.3
        radii.append(bv.RaySolver(landscape, directions, [cutoff], backend=backend).solve_all().radius)
    assert torch.allclose(*radii, rtol=1e-5)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x if float(x.sum()) > 0 else -x).tanh()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x.view(-1, 2, 3))[0][:, -1])


REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "recurrent": (Recurrent, F.cross_entropy, r"aten\.gru\.input is not an operation that programs have"),
    "data dependent": (Branching, F.cross_entropy, r"torch\.export cannot trace it \(GuardOnDataDependent"),
    "transposed convolution": (
        lambda: nn.Sequential(nn.Unflatten(1, (6, 1)), nn.ConvTranspose1d(6, 3, 1), nn.Flatten()),
        F.cross_entropy,
        r"aten\.conv_transpose1d\.default is not an operation",
    ),
    "float64": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Tanh()).double(), F.cross_entropy, "it computes in float32"),
    "a loss of the user": (perceptron(nn.SiLU()), lambda o, t: (o[:, 0] - t).abs().mean(), "not the mean of one of"),
    "a loss that is changed": (
        perceptron(nn.SiLU()),
        lambda o, t: 2.0 * F.cross_entropy(o, t),
        "not the mean of one of torch's losses",
    ),
    "an odd power": (lambda: Applied(lambda x: x.abs() ** 1.7, VECTOR), F.cross_entropy, "has the exponent 1.7"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_program_is_refused_by_name(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, loss_fn, reason = REFUSED[name]
    model = make()
    dtype = next(model.parameters()).dtype
    landscape = bv.Landscape(model, loss_fn, (vectors().to(dtype), labels()))
    directions = bv.Directions(bv.ParameterSpace.of(model), 3)
    with pytest.raises(bv.BackendUnavailable, match=f"as a program .*{reason}"):
        bv.RaySolver(landscape, directions, [3.0], backend="native")
    assert isinstance(bv.RaySolver(landscape, directions, [3.0]).engine, TorchEngine)
    assert capfd.readouterr() == ("", "")  # torch's own report of a failed trace is long


def test_a_program_that_does_not_give_the_losses_of_the_model_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the rule of an operation were wrong, or torch had given its name another meaning."""
    monkeypatch.setitem(PLAIN, "silu", "tanh")
    landscape = bv.Landscape(perceptron(nn.SiLU())(), F.cross_entropy, (vectors(), labels()))
    directions = bv.Directions(bv.ParameterSpace.of(landscape.model), 3)
    with pytest.raises(bv.BackendUnavailable, match=r"the traced operations give the loss \S+ where the model gives"):
        bv.RaySolver(landscape, directions, [3.0], backend="native")


def test_the_page_on_modules_lists_exactly_the_operations_that_are_lowered() -> None:
    page = (Path(__file__).parents[2] / "docs" / "modules.md").read_text()
    table = page.split("**These operations are lowered**")[1].split("Anything else")[0]
    words = set(re.findall(r"[a-z_][a-z_0-9]*", table))
    lowered = {name.split(".")[1] for name in RULES}
    assert sorted(lowered - words) == []
    torchs = {name for name in words if hasattr(torch.ops.aten, name)}
    assert sorted(torchs - lowered - {"data", "mode", "to"}) == []
