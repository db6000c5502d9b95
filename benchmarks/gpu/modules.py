"""Networks beyond perceptrons on the device: checked in float64, then timed against plain PyTorch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import basinvol as bv
from basinvol.model.full_precision import full_precision

from ..modules import CUTOFF_ABOVE_CENTER, GRID_POINTS, BatchedPerturbed
from ..networks import Gpt, LossFunction, Network, Recurrent, mnist_cnn_layers, next_character, resnet18, trained
from .device import DEVICE, IS_REHEARSAL, make_room, seconds_of, usable
from .lines import Lines

_CHECKED = 2 if IS_REHEARSAL else 4  # rays whose brackets are recomputed in float64


def modules(lines: Lines) -> None:
    """A line for each network and engine: seconds of a direction, and of the passes of a plain search along it."""
    for name, make in NETWORKS.items():
        network = make()
        for backend in ("torch", "triton") if name in PROGRAMS and "triton" in usable() else ("torch",):
            with lines.measuring(f"{name}, {backend}") as found:
                make_room()
                found |= _measure(network, backend)


@torch.no_grad()
def _measure(network: Network, backend: str) -> dict[str, Any]:
    landscape = bv.Landscape(network.model, network.loss_fn, (network.inputs, network.targets))
    space = bv.ParameterSpace.of(network.model)
    directions = bv.Directions(space, network.num_directions)
    cutoff = float(landscape.losses()[0]) + CUTOFF_ABOVE_CENTER

    def solver() -> bv.RaySolver:
        return bv.RaySolver(landscape, directions, [cutoff], backend=backend)

    begun = time.perf_counter()
    used = solver()
    preparation = time.perf_counter() - begun
    radii = used.solve_all().at()
    move = space.unflatten(directions.materialize([0])[0].to(DEVICE) * space.scale(network.model))
    plain = BatchedPerturbed(network, landscape.batch_size)
    with full_precision():  # as the engine computes
        passes = seconds_of(lambda: plain.loss(list(move.values()), float(radii.lower[0])), 3)["median"]
    plain.restore()
    seconds = seconds_of(lambda: solver().solve_all(), 1 if IS_REHEARSAL else 3)["median"] / network.num_directions
    evaluations = float(radii.num_evaluations.double().mean())
    return {
        "title": network.title,
        "ok": _holds(network, directions, radii, cutoff),
        "engine": used.description,
        "seconds_of_the_first_preparation": preparation,  # kernels are compiled, and programs compared with the model
        "num_params": space.dim,
        "num_directions": network.num_directions,
        "evaluations": evaluations,
        "seconds_per_direction": seconds,
        "seconds_of_a_plain_pass": passes,
        "vs_grid": GRID_POINTS * passes / seconds,
        "plain_passes_per_evaluation": seconds / evaluations / passes,
    }


def _holds(network: Network, directions: bv.Directions, radii: bv.Radii, cutoff: float) -> bool:
    """Whether the first brackets hold in float64, but for twice what torch's float32 is wrong by."""
    moves = directions.materialize(range(_CHECKED)).to(DEVICE) * directions.space.scale(network.model)
    errors, outside_by = [], []
    for ray in range(_CHECKED):
        for radius, sign in ((float(radii.lower[ray]), 1.0), (float(radii.upper[ray]), -1.0)):
            with full_precision():
                exact, rough = (
                    _loss(network, directions.space.unflatten(moves[ray]), radius, kind)
                    for kind in (torch.float64, torch.float32)
                )
            errors.append(abs(rough - exact))
            outside_by.append(sign * (exact - cutoff))
    return max(outside_by) <= 2.0 * max(errors)


def _loss(network: Network, move: dict[str, Tensor], radius: float, kind: torch.dtype) -> float:
    model = copy.deepcopy(network.model).to(kind)
    for name, parameter in model.named_parameters():
        parameter.data.add_(move[name].to(kind), alpha=radius)
    inputs = network.inputs.to(kind) if network.inputs.is_floating_point() else network.inputs
    total = 0.0
    for first in range(0, len(inputs), 256):
        part = slice(first, first + 256)
        loss = network.loss_fn(model(inputs[part]), network.targets[part])
        total += float(loss) * len(inputs[part])
    return total / len(inputs)


def _images(count: int) -> tuple[Tensor, Tensor]:
    """Images of 28 x 28 that a network can tell apart: smooth class means and noise."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 10
    means = F.interpolate(torch.randn(10, 1, 7, 7, generator=generator), size=28, mode="bilinear")[:, 0]
    return means[targets] + 0.5 * torch.randn(count, 28, 28, generator=generator), targets


def _case(
    title: str,
    make: Callable[[], nn.Module],
    inputs: Tensor,
    targets: Tensor,
    steps: int,
    rays: int,
    loss_fn: LossFunction = F.cross_entropy,
) -> Network:
    if IS_REHEARSAL:
        steps, rays = 20, 2
    return trained(title, make, loss_fn, inputs.to(DEVICE), targets.to(DEVICE), steps, rays)


def _cnn() -> Network:
    inputs, targets = _images(60 if IS_REHEARSAL else 5000)
    return _case("MNIST CNN, 5,000 rows", mnist_cnn_layers, inputs[:, None], targets, 200, rays=100)


def _resnet() -> Network:
    inputs, targets = _images(256)
    images = F.pad(inputs, (2, 2, 2, 2))[:, None].expand(-1, 3, -1, -1).contiguous()
    return _case("ResNet-18, 256 images of 32 x 32", resnet18, images, targets, 200, rays=32)


def _gpt() -> Network:
    generator = torch.Generator().manual_seed(0)
    # Every character is one of two that may follow the one before.
    codes = [torch.randint(65, (16 if IS_REHEARSAL else 512,), generator=generator)]
    for _ in range(64):
        codes.append((3 * codes[-1] + torch.randint(2, codes[-1].shape, generator=generator)) % 65)
    text = torch.stack(codes, dim=1)
    title = "GPT, 4 layers of 128, 512 sequences of 64"
    return _case(title, lambda: Gpt(65), text[:, :-1], text[:, 1:], 300, loss_fn=next_character, rays=64)


def _gru() -> Network:
    inputs, targets = _images(60 if IS_REHEARSAL else 5000)
    return _case("GRU, 5,000 rows", Recurrent, inputs, targets, 300, rays=64)


def _small_cnn() -> Network:
    """A network that Triton's interpreter can take."""
    inputs, targets = _images(12)

    def layers() -> nn.Module:
        first = nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2)
        return nn.Sequential(*first, nn.Flatten(), nn.Linear(16, 10, bias=False))

    return _case("small CNN", layers, F.avg_pool2d(inputs[:, None], 4), targets, 200, rays=2)


NETWORKS: dict[str, Callable[[], Network]] = {"mnist-cnn": _cnn, "gpt": _gpt, "resnet18": _resnet, "gru": _gru}
PROGRAMS = ("mnist-cnn", "gpt", "resnet18")  # which run on the engine triton too
if IS_REHEARSAL:  # others take minutes
    NETWORKS, PROGRAMS = {"small-cnn": _small_cnn, "gru": _gru}, ("small-cnn",)
