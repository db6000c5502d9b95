"""The engine for any module: brackets that hold in float64, and bytes that depend on the problem alone."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.backends.pytorch import replicas
from basinvol.backends.pytorch.units import units_of, weighted_losses

NUM = 40


class Convolutional(nn.Module):
    """Strides, groups, batch norm with statistics, and a branch that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.second, self.short = nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.Conv2d(2, 8, 1, stride=2)
        self.head = nn.Linear(8, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.first(x)))
        return self.head(F.gelu(self.second(y) + self.short(x)).mean(dim=(2, 3)))


class Transformer(nn.Module):
    """Causal attention, layer norm, and an output that shares its weight with the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.attend, self.head = nn.Linear(8, 24), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        q, k, v = self.attend(self.norm(x)).view(*tokens.shape, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return self.head(x + mixed)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(5, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


def normalized() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 9), nn.SiLU(), nn.Linear(9, 3))
    nn.utils.parametrizations.weight_norm(model[0])
    return model


def next_token(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=0)


def labels() -> Tensor:
    return torch.arange(NUM) % 3


Case = tuple[Callable[[], nn.Module], Callable[[], Tensor], Callable[[], Tensor], Any]
CASES: dict[str, Case] = {
    "convolutions": (Convolutional, lambda: torch.randn(NUM, 2, 9, 9), labels, F.cross_entropy),
    "attention": (
        Transformer,
        lambda: torch.randint(11, (NUM, 6)),
        lambda: torch.randint(11, (NUM, 6)),
        next_token,
    ),
    "recurrent": (Recurrent, lambda: torch.randn(NUM, 4, 5), labels, nn.CrossEntropyLoss(label_smoothing=0.1)),
    "weight norm": (normalized, lambda: torch.randn(NUM, 6), lambda: torch.randn(NUM, 3), nn.SmoothL1Loss()),
    "float64": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.ELU(), nn.Linear(9, 3)).double(),
        lambda: torch.randn(NUM, 6).double(),
        lambda: torch.randn(NUM, 3).double(),
        F.huber_loss,
    ),
    "two dtypes": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.LeakyReLU(), Cast(), nn.Linear(9, 1).double()),
        lambda: torch.randn(NUM, 6),
        lambda: torch.rand(NUM, 1).double(),
        nn.BCEWithLogitsLoss(),
    ),
    "a loss of the user": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.SiLU(), nn.Linear(9, 3)),
        lambda: torch.randn(NUM, 6),
        lambda: torch.randn(NUM, 3),
        lambda outputs, targets: (outputs - targets).abs().mean(),
    ),
}


class Cast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


def problem(name: str) -> tuple[nn.Module, Any, tuple[Tensor, Tensor]]:
    """A network after a few steps of training, the same at every call."""
    torch.manual_seed(0)
    make, inputs, targets, loss_fn = CASES[name]
    model, data = make(), (inputs(), targets())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss_fn(model.train()(data[0]), data[1]).backward()
        optimizer.step()
    return model.eval(), loss_fn, data


def solve(name: str, above: tuple[float, ...] = (0.05, 0.3), count: int = 9, **options: Any) -> bv.Radii:
    model, loss_fn, data = problem(name)
    batch_size = options.pop("batch_size", None)
    landscape = bv.Landscape(model, loss_fn, data, levels=[13, NUM], batch_size=batch_size)
    cutoffs = [float(landscape.losses().max()) + gap for gap in above]
    directions = bv.Directions(bv.ParameterSpace.of(model), count)
    options = {"backend": "torch", "rtol": 1e-3, **options}
    return bv.RaySolver(landscape, directions, cutoffs, **options).solve_all()


@pytest.mark.parametrize("name", CASES)
def test_brackets_hold_in_float64(name: str) -> None:
    radii = solve(name)
    assert bool(radii.is_status(bv.Status.CROSSED).all())
    model, loss_fn, data = problem(name)
    space = bv.ParameterSpace.of(model)
    double = copy.deepcopy(model).double()
    moved = tuple(part.double() if part.is_floating_point() else part for part in data)
    space64 = bv.ParameterSpace.of(double)
    center, scale = space64.flatten(double), space.scale(model).double()
    units = bv.Directions(space, len(radii)).materialize(range(len(radii)), torch.float64)
    landscape = bv.Landscape(double, loss_fn, moved, levels=[13, NUM])
    for column, cutoff in enumerate(radii.cutoffs):
        for ray, unit in enumerate(units):
            for row in range(2):
                inside, outside = (
                    float(
                        landscape.losses(space64.unflatten(center + float(end[row, column, ray]) * unit * scale))[row]
                    )
                    for end in (radii.lower, radii.upper)
                )
                assert inside <= cutoff * (1 + 1e-5)
                assert outside >= cutoff * (1 - 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_it_agrees_with_the_reference(name: str) -> None:
    found, expected = solve(name), solve(name, backend="reference")
    assert torch.equal(found.status_code, expected.status_code)
    assert torch.allclose(found.radius, expected.radius, rtol=1e-4)
    assert torch.equal(found.num_evaluations, expected.num_evaluations)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutions", "attention", "a loss of the user"])
@pytest.mark.parametrize("resolve", ["all", "decisive"])
def test_threads_blocks_and_memory_change_no_byte(name: str, resolve: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basinvol.backends.pytorch.engine._SHORT", 0.0)
    usual = solve(name, count=40, batch_size=7, resolve=resolve, num_threads=1)
    for options in ({"num_threads": 3}, {"num_threads": 3, "memory_budget": 1}):
        other = solve(name, count=40, batch_size=7, resolve=resolve, **options)
        for field in ("lower", "upper", "value_lower", "value_upper", "radius"):
            assert torch.equal(getattr(other, field).nan_to_num(), getattr(usual, field).nan_to_num()), field
    model, loss_fn, data = problem(name)
    landscape = bv.Landscape(model, loss_fn, data, levels=[13, NUM], batch_size=7)
    directions = bv.Directions(bv.ParameterSpace.of(model), 40)
    options = {"backend": "torch", "rtol": 1e-3, "resolve": resolve}
    solver = bv.RaySolver(landscape, directions, usual.cutoffs, **options)
    parts = bv.Radii.concatenate([solver.solve(0, 11), solver.solve(11, 40)])
    assert torch.equal(solver.refine(parts).lower, usual.lower)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutions", "weight norm"])
def test_rays_that_are_skipped_were_short(name: str) -> None:
    everything = solve(name, above=(0.1,), count=90, batch_size=5)
    decisive = solve(name, above=(0.1,), count=90, batch_size=5, resolve="decisive")
    skipped = decisive.is_status(bv.Status.NEGLIGIBLE)
    assert bool(skipped.any())
    assert bool((everything.radius <= decisive.upper)[skipped].all())
    assert torch.allclose(decisive.radius[~skipped], everything.radius[~skipped], rtol=2e-3)


def test_a_proof_reads_few_examples() -> None:
    """The hardest examples come first, and a ray that is far outside is dropped after a batch of them."""
    model, loss_fn, data = problem("convolutions")
    calls = []
    model.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    landscape = bv.Landscape(model, loss_fn, data, batch_size=4)
    cutoff = float(landscape.losses()[0]) + 0.02
    directions = bv.Directions(bv.ParameterSpace.of(model), 64)
    solver = bv.RaySolver(landscape, directions, [cutoff], backend="torch", resolve="decisive", num_threads=1)
    solver.solve(0, 32)
    calls.clear()
    radii = solver.solve(32, 64)
    proofs = int((radii.is_status(bv.Status.NEGLIGIBLE)).sum())
    assert proofs > 10
    whole = int(radii.num_evaluations.sum()) - proofs  # at most: some rays are proved from all examples
    assert sum(calls) < (whole + 0.9 * proofs) * NUM


LOSSES: list[tuple[Any, bool]] = [
    (F.cross_entropy, True),
    (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5])), True),
    (nn.CrossEntropyLoss(ignore_index=1, label_smoothing=0.2), True),
    (lambda o, t: F.nll_loss(o.log_softmax(dim=1), t), True),
    (lambda o, t: F.nll_loss(o, t), False),
    (lambda o, t: F.mse_loss(o.softmax(dim=1), F.one_hot(t, 3).float()), True),
    (lambda o, t: F.l1_loss(o, F.one_hot(t, 3).float()), True),
    (lambda o, t: F.smooth_l1_loss(o, F.one_hot(t, 3).float(), beta=0.3), True),
    (lambda o, t: F.huber_loss(o[:, 0], t.float(), delta=0.3), True),
    (lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], (t > 0).float()), True),
    (lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], t.float()), False),
    (lambda o, t: F.cross_entropy(o, F.one_hot(t, 3).float()), True),
    (bv.PerExampleLoss(lambda o, t: (1.0 - o[:, 0] * t).clamp(min=0), nonnegative=True), True),
    (bv.PerExampleLoss(lambda o, t: o[:, 0] * t), False),
]


@pytest.mark.parametrize(("loss_fn", "is_nonnegative"), LOSSES)
def test_losses_by_example_add_up_to_the_loss(loss_fn: Any, is_nonnegative: bool) -> None:
    model, data = nn.Sequential(nn.Linear(6, 9), nn.SiLU(), nn.Linear(9, 3)), (torch.randn(NUM, 6), labels())
    landscape = bv.Landscape(model, loss_fn, data, levels=[8, NUM], batch_size=11)
    units, found = units_of(landscape)
    assert units.kind == "example"
    assert found == is_nonnegative
    every, out = torch.arange(NUM), torch.empty(NUM, dtype=torch.float64)
    sums = weighted_losses(units, landscape.caller, {}, every, out)
    for stop, expected in zip(units.stops, landscape.losses().tolist(), strict=True):
        assert float(sums[:stop].sum() / units.weights[:stop].sum()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda o, t: F.mse_loss(o, F.one_hot(t, 3).float()).exp(),  # no mean over examples, but for one value of all
        lambda o, t: 2.0 * F.cross_entropy(o, t),
        lambda o, t: F.cross_entropy(o - o.detach().mean(), t) if isinstance(o, Tensor) else None,
    ],
)
def test_other_losses_go_by_batch(loss_fn: Any) -> None:
    torch.manual_seed(0)
    model, data = nn.Linear(6, 3), (torch.randn(1, 6).repeat(NUM, 1), torch.zeros(NUM, dtype=torch.int64))
    units, is_nonnegative = units_of(bv.Landscape(model, loss_fn, data))
    assert (units.kind, is_nonnegative) == ("batch", False)


def test_a_declared_loss_must_be_by_example() -> None:
    data = (torch.randn(NUM, 6), labels())
    loss_fn = bv.PerExampleLoss(lambda o, t: F.cross_entropy(o, t))
    with pytest.raises(ValueError, match=r"must return one loss for each example, got shape \[\]; use reduction="):
        bv.Landscape(nn.Linear(6, 3), loss_fn, data)
    with pytest.raises(ValueError, match="`function` must be a function of outputs and targets, got a float"):
        bv.PerExampleLoss(1.0)


class Locked(nn.Module):
    """It cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.lock = nn.Linear(6, 3), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.linear(x).tanh()


def test_what_cannot_be_copied_is_measured_in_place() -> None:
    data = (torch.randn(NUM, 6), labels())
    locked = Locked()
    bound = nn.Linear(6, 3)

    def penalized(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) + 0.1 * bound.weight.square().sum()

    for model, loss_fn in ((locked, F.cross_entropy), (bound, penalized)):
        landscape = bv.Landscape(model, loss_fn, data)
        directions = bv.Directions(bv.ParameterSpace.of(model), 5)
        cutoff = [float(landscape.losses()[0]) + 0.2]
        found, expected = (
            bv.RaySolver(landscape, directions, cutoff, backend=name, num_threads=2).solve_all()
            for name in ("torch", "reference")
        )
        assert torch.allclose(found.radius, expected.radius, rtol=1e-5, equal_nan=True)


def test_copies_are_used_where_they_are_right() -> None:
    landscape = bv.Landscape(Recurrent(), F.cross_entropy, (torch.randn(NUM, 4, 5), labels()))
    perturbed = {name: 1.1 * p for name, p in landscape.center.items()}
    callers = replicas.replicas(landscape, 3, perturbed)
    assert len({id(caller) for caller in callers}) == 3
    assert landscape.caller not in callers


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.limit = nn.Linear(6, 3), 1e9

    def forward(self, x: Tensor) -> Tensor:
        if float(self.linear.weight.abs().max()) > self.limit:
            raise RuntimeError("too far out")
        return self.linear(x)


def test_a_model_that_fails_on_the_way_keeps_what_was_found() -> None:
    model, data = Failing(), (torch.randn(NUM, 6), labels())
    landscape = bv.Landscape(model, F.cross_entropy, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 40)
    solver = bv.RaySolver(landscape, directions, [2.0], backend="torch", num_threads=2)
    radii = solver.solve(0, 8)
    copies = [caller._model for caller in solver.engine._callers]
    for copied in copies:
        copied.limit = 0.0
    with pytest.raises(bv.RaySearchFailed, match="too far out"):
        solver.solve(8, 40)
    for copied in copies:
        copied.limit = 1e9
    assert torch.equal(solver.solve(0, 8).radius, radii.radius)


_LARGE = """
import resource, torch, basinvol as bv
from torch import nn

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

class Table(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.table = nn.Embedding(rows, 1024)
    def forward(self, x):
        return self.table(x).mean(dim=1)

def measure(rows):
    model = Table(rows)
    data = (torch.arange(4), torch.zeros(4))
    landscape = bv.Landscape(model, nn.MSELoss(), data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 3)
    cutoff = float(landscape.losses()[0]) + 0.1
    return bv.RaySolver(landscape, directions, [cutoff], backend="torch", num_threads=2, memory_budget=1).solve_all()

measure(10)
before = peak()
radii = measure(40_000)
assert bool(radii.is_status(bv.Status.CROSSED).all())
print((peak() - before) / (4 * 40_000 * 1024))
"""


@pytest.mark.slow
def test_a_large_model_takes_three_times_its_memory() -> None:
    """The parameters, one perturbed copy and one vector of moves: no table of directions, no vector of scales."""
    done = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 3.3


class Viewing(nn.Module):
    """Its activations must be contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(4 * 49, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(x)).view(len(x), -1))


@pytest.mark.parametrize(("make", "expected"), [(Convolutional, 2), (Viewing, 0), (Recurrent, 0)])
def test_convolutions_compute_with_channels_last_where_the_model_lets_them(
    make: Callable[[], nn.Module], expected: int
) -> None:
    inputs = torch.randn(NUM, 4, 5) if make is Recurrent else torch.randn(NUM, 2, 9, 9)
    landscape = bv.Landscape(make(), F.cross_entropy, (inputs, labels()))
    directions = bv.Directions(bv.ParameterSpace.of(landscape.model), 4)
    cutoff = [float(landscape.losses()[0]) + 0.2]
    solver = bv.RaySolver(landscape, directions, cutoff, backend="torch")
    copied = solver.problem.working_copy.named.values()
    assert sum(not p.is_contiguous() for p in copied) == expected
    reference = bv.RaySolver(landscape, directions, cutoff, backend="reference").solve_all()
    assert torch.allclose(solver.solve_all().radius, reference.radius, rtol=1e-4)
