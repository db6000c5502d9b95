"""The Triton kernels of programs one by one, against float64 and torch; on the interpreter where there is no GPU.

Every kernel works on two directions and three examples. What lies beside a value in memory is NaN, and must stay so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("triton", reason="triton is not installed on this platform")

from basin_triton.attention import attention
from basin_triton.batched import Matrices, batched
from basin_triton.by_rows import KINDS, by_rows
from basin_triton.convolution import Image, Window, convolution
from basin_triton.depthwise import depthwise
from basin_triton.elementwise import elementwise
from basin_triton.embed import embed
from basin_triton.functions import BINARY, FUNCTIONS
from basin_triton.pool import Windows, pool
from basin_triton.product import Finish, Rows, product
from basin_triton.strided import Loop, Strided
from basin_triton.term_losses import LOSSES, Terms, term_losses

# The interpreter computes with numpy, which warns of overflow, infinities and NaN where a device does not.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_ROUNDING = 2.0**-24
_DIRECTIONS, _EXAMPLES = 2, 3
_MARGIN = 5  # NaN after each example


def rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def assert_as_exact_as_float32(found: Tensor, function: Callable[..., Tensor], *values: Tensor) -> None:
    """At most twice torch's error in float32, and the one rounding that every float32 number has."""
    rough, exact = function(*values), function(*(value.double() for value in values))
    assert exact.dtype == torch.float64
    assert found.shape == exact.shape
    assert rms(found.cpu() - exact) <= 2.0 * rms(rough - exact) + _ROUNDING * rms(exact)


def held(values: Tensor, *, each: bool = True) -> Strided:
    """Values [D, E, ...], or [E, ...] that directions share, or [...] that examples share as well, with NaN between."""
    lead = 2 if each else 1
    flat = values.flatten(lead) if values.ndim >= lead else values
    room = torch.full((*flat.shape[:-1], flat.shape[-1] + _MARGIN), math.nan)
    room[..., : flat.shape[-1]] = flat
    memory = room.to(_DEVICE)
    return Strided(memory, memory.stride(0) if each else 0, memory.stride(-2))


def parameters(values: Tensor) -> Strided:
    """Values [D, ...] that examples share."""
    memory = values.contiguous().to(_DEVICE)
    return Strided(memory, memory.stride(0), 0)


def room(*shape: int) -> Strided:
    return held(torch.full((_DIRECTIONS, _EXAMPLES, *shape), math.nan))


def values_of(out: Strided, *shape: int) -> Tensor:
    """The values, after a look at what is beside them. [D, E, ...]"""
    count = math.prod(shape)
    assert bool(out.memory[..., count:].isnan().all()), "a kernel wrote beside its result"
    return out.memory[..., :count].reshape(_DIRECTIONS, _EXAMPLES, *shape).cpu()


def some(*shape: int) -> Tensor:
    return torch.randn(_DIRECTIONS, _EXAMPLES, *shape)


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.25),
    "elu": lambda x: F.elu(x, 0.25),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "negate": torch.neg,
    "abs": torch.abs,
    "square": torch.square,
    "cube": lambda x: x * x * x,
    "clamp": lambda x: x.clamp(0.25, 0.75),
    "affine": lambda x: x * 0.25 + 0.75,
    "erf": torch.erf,
    "softplus": F.softplus,
    "sin": torch.sin,
    "cos": torch.cos,
}
assert tuple(UNARY) == FUNCTIONS


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_are_those_of_torch(kind: str) -> None:
    x = 3.0 * some(5, 4)
    if kind in ("log", "sqrt", "rsqrt"):
        x = x.abs() + 0.1
    x[0, 0, 0] = torch.tensor([0.5, 25.0, 1e-4, 8.0])
    out = room(4, 5)  # the result lies in another order
    loop = Loop.over([[(4, 5), (5, 1)], [(4, 1), (5, 4)]], _DEVICE)
    given = {"directions": _DIRECTIONS, "examples": _EXAMPLES, "first": 0.25, "second": 0.75}
    elementwise(kind, out, held(x), None, loop, **given)
    assert_as_exact_as_float32(values_of(out, 4, 5).mT, UNARY[kind], x)
    x[:] = math.nan
    elementwise(kind, out, held(x), None, loop, **given)
    assert bool(values_of(out, 4, 5).isnan().all())


@pytest.mark.parametrize("kind", BINARY)
def test_functions_of_two_values_are_those_of_torch(kind: str) -> None:
    x, y = some(3, 1, 4), some(5, 1)
    x[0, 0, 0] = math.nan
    out = held(torch.zeros(_DIRECTIONS, _EXAMPLES, 3, 5, 4))
    loop = Loop.over([[(60, 1)], [(3, 4), (5, 0), (4, 1)], [(3, 0), (5, 1), (4, 0)]], _DEVICE)
    if kind == "fill_where":
        x = (x > 0).float()
    elementwise(kind, out, held(x), held(y), loop, _DIRECTIONS, _EXAMPLES)
    found = values_of(out, 3, 5, 4)
    if kind == "fill_where":
        assert torch.equal(found, torch.where(x > 0, y[:, :, None], 0.0).expand_as(found))
    else:
        names = {"subtract": torch.sub, "multiply": torch.mul, "divide": torch.div}
        function = names.get(kind, getattr(torch, kind, torch.add))
        assert torch.equal(found.nan_to_num(), function(x, y[:, :, None]).expand_as(found).nan_to_num())


def test_a_loop_needs_dimensions_with_a_common_division() -> None:
    assert Loop.over([[(6, 4), (4, 1)], [(2, 12), (12, 1)]], _DEVICE).table.tolist() == [[24, 1, 1, 0]]
    assert Loop.over([[], []], _DEVICE).count == 1
    with pytest.raises(ValueError, match="cannot be divided"):
        Loop.over([[(2, 4), (3, 1)], [(3, 4), (2, 1)]], _DEVICE)
    with pytest.raises(ValueError, match="same number of elements"):
        Loop.over([[(6, 1)], [(3, 1)]], _DEVICE)


@pytest.mark.parametrize("columns", [7, 130, 1500])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_reduced_as_by_torch(kind: str, columns: int) -> None:
    x = some(2, 2, columns) + 0.5
    weight, bias = torch.rand(_DIRECTIONS, columns), torch.randn(_DIRECTIONS, columns)
    functions = {
        "layer_norm": lambda x, w, b: (
            F.layer_norm(x, (columns,), eps=1e-3) * w[:, None, None, None] + b[:, None, None, None]
        ),
        "rms_norm": lambda x, w, b: F.rms_norm(x, (columns,), eps=1e-3) * w[:, None, None, None],
        "softmax": lambda x, w, b: F.softmax(x, dim=-1),
        "log_softmax": lambda x, w, b: F.log_softmax(x, dim=-1),
        "sum": lambda x, w, b: x.sum(dim=-1) * 0.001,
        "largest": lambda x, w, b: x.amax(dim=-1),
    }
    width = 1 if kind in ("sum", "largest") else columns
    out = room(2, 2, width)
    loop = Loop.over([[(4, width)], [(2, columns), (2, 2 * columns)]], _DEVICE)  # x has its rows in another order
    by_rows(
        kind,
        out,
        held(x.transpose(2, 3)),
        loop,
        columns,
        _DIRECTIONS,
        _EXAMPLES,
        number=1e-3,
        weight=parameters(weight) if "norm" in kind else None,
        bias=parameters(bias) if kind == "layer_norm" else None,
    )
    found = values_of(out, 2, 2, width)
    assert_as_exact_as_float32(found.squeeze(-1) if width == 1 else found, functions[kind], x, weight, bias)


@pytest.mark.parametrize("is_max", [True, False])
def test_windows_are_pooled_as_by_torch(is_max: bool) -> None:
    x = some(4, 5, 3)  # height, width, channels
    if is_max:
        x[0, 0, 1, 1, 2] = math.nan
    # Windows of 3 x 2, every 2 x 1, with one row of padding that is not counted.
    bounds = [0, 2, 1, 4, *(end for start in range(4) for end in (start, start + 2))]
    factors = [1 / 4] * 4 + [1 / 6] * 4
    windows = Windows.of(bounds, factors, 2, 4, _DEVICE)
    out = room(2, 4, 3)
    pool(out, held(x), 15, 3, 3, windows, is_max, _DIRECTIONS, _EXAMPLES)

    def by_torch(x: Tensor) -> Tensor:
        image = x.flatten(0, 1).permute(0, 3, 1, 2)
        image = F.pad(image, (0, 0, 1, 0), value=-math.inf if is_max else 0.0)
        if is_max:
            pooled = F.max_pool2d(image, (3, 2), (2, 1))
        else:
            pooled = F.avg_pool2d(image, (3, 2), (2, 1), divisor_override=1)
            pooled = pooled * torch.tensor(factors, dtype=x.dtype).view(2, 4)
        return pooled.permute(0, 2, 3, 1).unflatten(0, (_DIRECTIONS, _EXAMPLES))

    found = values_of(out, 2, 4, 3)
    assert torch.equal(found.isnan(), by_torch(x).isnan())
    assert_as_exact_as_float32(found.nan_to_num(), lambda x: by_torch(x).nan_to_num(), x)


def test_entries_are_looked_up() -> None:
    table, indices = torch.randn(_DIRECTIONS, 7, 5), torch.randint(7, (_EXAMPLES, 2, 2))
    out = room(2, 2, 5)
    loop = Loop.over([[(2, 1), (2, 2)]], _DEVICE)
    embed(out, parameters(table.mT), 1, 7, 5, held(indices.float(), each=False), loop, _DIRECTIONS, _EXAMPLES)
    assert torch.equal(values_of(out, 2, 2, 5), table[:, indices.mT])


@pytest.mark.parametrize("precision", ["fp32", "tf32x3"])
@pytest.mark.parametrize(("depth", "outputs"), [(3, 5), (40, 70)])
def test_products_with_weights_are_as_exact_as_torchs(depth: int, outputs: int, precision: str) -> None:
    x, weight, bias = some(50, depth), torch.randn(_DIRECTIONS, outputs, depth), torch.randn(_DIRECTIONS, outputs)
    added = torch.randn(_EXAMPLES, 50, outputs)  # shared by directions
    rows = x.contiguous().to(_DEVICE)
    out = torch.full((_DIRECTIONS, _EXAMPLES * 50, outputs + 3), math.nan, device=_DEVICE)
    product(
        Rows(Strided(out, out.stride(0), 0), outputs + 3),
        Rows(Strided(rows, rows.stride(0), 0), depth),
        Rows(parameters(weight), depth),
        _EXAMPLES * 50,
        depth,
        outputs,
        _DIRECTIONS,
        finish=Finish(parameters(bias), Rows(Strided(added.to(_DEVICE), 0, 0), outputs), "clamp", -3.0, 4.0),
        precision=precision,
    )
    assert bool(out[:, :, outputs:].isnan().all())

    def by_torch(x: Tensor, weight: Tensor, bias: Tensor, added: Tensor) -> Tensor:
        return (x @ weight[:, None].mT + bias[:, None, None] + added).clamp(-3.0, 4.0)

    found = out[:, :, :outputs].cpu().unflatten(1, (_EXAMPLES, 50))
    assert_as_exact_as_float32(found, by_torch, x, weight, bias, added)


@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "options"),
    [
        (3, 5, 1, {"padding": (1, 0)}),
        (32, 4, 1, {"stride": (2, 1), "padding": 1}),
        (2, 3, 3, {"dilation": (1, 2), "padding": 2}),
    ],
)
def test_convolutions_are_as_exact_as_torchs(channels: int, outputs: int, groups: int, options: dict) -> None:
    x = some(5, 6, channels * groups)
    weight = torch.randn(_DIRECTIONS, groups * outputs, channels, 3, 2)
    bias = torch.randn(_DIRECTIONS, groups * outputs)

    def by_torch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        images = x.permute(0, 1, 4, 2, 3)
        parts = [F.relu(F.conv2d(*part, groups=groups, **options)) for part in zip(images, weight, bias, strict=True)]
        return torch.stack(parts).permute(0, 1, 3, 4, 2)

    shape = by_torch(x, weight, bias).shape[2:]
    window = window_of((5, 6), (3, 2), shape[:2], options)
    rows = torch.full((_DIRECTIONS, _EXAMPLES * window.pixels, shape[2] + 2), math.nan, device=_DEVICE)
    convolution(
        Rows(Strided(rows, rows.stride(0), 0), shape[2] + 2),
        Image(held(x), 6 * channels * groups, channels * groups),
        parameters(weight.permute(0, 1, 3, 4, 2)),
        window,
        channels,
        outputs,
        groups,
        _DIRECTIONS,
        _EXAMPLES,
        finish=Finish(parameters(bias), None, "relu"),
    )
    assert bool(rows[:, :, shape[2] :].isnan().all())
    found = rows[:, :, : shape[2]].cpu().reshape(_DIRECTIONS, _EXAMPLES, *shape)
    assert_as_exact_as_float32(found, by_torch, x, weight, bias)


def test_depthwise_convolutions_are_as_exact_as_torchs() -> None:
    x, weight, bias = some(5, 6, 7), torch.randn(_DIRECTIONS, 7, 1, 3, 3), torch.randn(_DIRECTIONS, 7)
    options = {"stride": 2, "padding": 1}

    def by_torch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        images = x.permute(0, 1, 4, 2, 3)
        parts = [F.conv2d(*part, groups=7, **options) for part in zip(images, weight, bias, strict=True)]
        return torch.stack(parts).permute(0, 1, 3, 4, 2)

    window = window_of((5, 6), (3, 3), (3, 3), options)
    rows = torch.full((_DIRECTIONS, _EXAMPLES * 9, 8), math.nan, device=_DEVICE)
    taps = parameters(weight.permute(0, 3, 4, 2, 1))
    out, image = Rows(Strided(rows, rows.stride(0), 0), 8), Image(held(x), 42, 7)
    depthwise(out, image, taps, parameters(bias), window, 7, _DIRECTIONS, _EXAMPLES)
    found = rows[:, :, :7].cpu().reshape(_DIRECTIONS, _EXAMPLES, 3, 3, 7)
    assert_as_exact_as_float32(found, by_torch, x, weight, bias)


def window_of(image: tuple[int, int], kernel: tuple[int, int], out: tuple[int, int], options: dict) -> Window:
    def pair(name: str, neutral: int) -> tuple[int, int]:
        given = options.get(name, neutral)
        return given if isinstance(given, tuple) else (given, given)

    return Window(*image, *kernel, *pair("stride", 1), *pair("padding", 0), *pair("dilation", 1), *out)


def test_products_of_values_are_as_exact_as_torchs() -> None:
    x, y = some(2, 20, 17), some(2, 5, 17)  # the second is transposed
    out = room(2, 20, 5)
    parts = [Matrices(out, 100, 5, 1), Matrices(held(x), 340, 17, 1), Matrices(held(y), 85, 1, 17)]
    batched(*parts, 2, 20, 17, 5, _DIRECTIONS, _EXAMPLES)
    assert_as_exact_as_float32(values_of(out, 2, 20, 5), lambda x, y: x @ y.mT, x, y)


@pytest.mark.parametrize("columns", [9, 70])
@pytest.mark.parametrize("kind", ["full", "causal", "chosen", "added"])
def test_attention_is_as_exact_as_torchs(kind: str, columns: int) -> None:
    heads, rows, features, outputs = 2, 9 if columns == 9 else 20, 5, 20
    q, k, v = 3.0 * some(heads, rows, features), some(heads, columns, features), some(heads, columns, outputs)
    mask, given = None, {}
    if kind == "causal":
        given = {"is_causal": True}
    elif kind != "full":
        mask = torch.randn(_EXAMPLES, 1, rows, columns)  # the same for all heads and directions
        mask = (mask > 0).float() if kind == "chosen" else mask

    def by_torch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = None if mask is None else (mask.to(q) if kind == "added" else mask > 0)
        return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias[None], scale=0.7, **given)

    out = room(heads, rows, outputs)
    attention(
        Matrices(out, rows * outputs, outputs, 1),
        Matrices(held(q), rows * features, features, 1),
        Matrices(held(k), columns * features, features, 1),
        Matrices(held(v), columns * outputs, outputs, 1),
        None if mask is None else Matrices(held(mask, each=False), 0, columns, 1),
        heads,
        rows,
        columns,
        features,
        outputs,
        _DIRECTIONS,
        _EXAMPLES,
        factor=0.7,
        is_added=kind == "added",
        **given,
    )
    assert_as_exact_as_float32(values_of(out, heads, rows, outputs), by_torch, q, k, v)


@pytest.mark.parametrize("terms", [1, 5, 40])
@pytest.mark.parametrize("loss", ["smoothed", "weighted", *LOSSES])
def test_losses_of_examples_are_as_exact_as_torchs(loss: str, terms: int) -> None:
    is_class = loss in ("smoothed", "weighted", "cross_entropy")
    x = 2.0 * (some(terms, 35) if is_class else some(terms))
    numbers = {"huber": (0.5, 2.0), "smoothed": (-100.0, 0.1)}.get(loss, (-100.0, 0.0))
    targets = torch.randint(35, (_EXAMPLES, terms)).float() if is_class else torch.rand(_EXAMPLES, terms)
    weight = torch.rand(35) if loss == "weighted" else None
    if is_class and terms > 1:
        targets[0, 1] = -100.0
    function = {
        "bce_with_logits": F.binary_cross_entropy_with_logits,
        "mse": F.mse_loss,
        "l1": F.l1_loss,
        "huber": lambda o, t, reduction: 2.0 * F.huber_loss(o, t, delta=0.5, reduction=reduction),
    }.get(loss)

    def by_torch(x: Tensor) -> Tensor:
        wanted = targets.expand(_DIRECTIONS, -1, -1)
        if function is not None:
            return function(x, wanted.to(x), reduction="none").double().sum(dim=2)
        given = None if weight is None else weight.to(x)
        smoothing = 0.1 if loss == "smoothed" else 0.0
        each = F.cross_entropy(
            x.flatten(0, 2), wanted.flatten().long(), given, reduction="none", label_smoothing=smoothing
        )
        return each.double().view(_DIRECTIONS, _EXAMPLES, terms).sum(dim=2)

    out = torch.full((_DIRECTIONS + 1, _EXAMPLES), math.nan, dtype=torch.float64, device=_DEVICE)
    term_losses(
        out,
        Terms(held(x), 35 if is_class else 1),
        Terms(held(targets, each=False), 1),
        terms,
        _DIRECTIONS,
        loss="cross_entropy" if is_class else loss,
        classes=35,
        first=numbers[0],
        second=numbers[1],
        class_weight=None if weight is None else weight.to(_DEVICE),
    )
    assert bool(out[_DIRECTIONS].isnan().all())
    assert_as_exact_as_float32(out[:_DIRECTIONS], by_torch, x)


def test_unknown_names_are_refused() -> None:
    x = room(2)
    loop = Loop.over([[(2, 1)]], _DEVICE)
    with pytest.raises(ValueError, match="`kind` must be one of 'identity'"):
        elementwise("add", x, x, None, loop, 1, 1)
    with pytest.raises(ValueError, match="`kind` must be one of 'layer_norm'"):
        by_rows("mean", x, x, loop, 1, 1, 1)
    with pytest.raises(ValueError, match="`loss` must be one of 'cross_entropy'"):
        term_losses(torch.zeros(1, 1, dtype=torch.float64), Terms(x, 1), Terms(x, 1), 1, 1, loss="hinge")
    with pytest.raises(ValueError, match="`out` must be float64"):
        term_losses(torch.zeros(1, 1), Terms(x, 1), Terms(x, 1), 1, 1, loss="mse")
