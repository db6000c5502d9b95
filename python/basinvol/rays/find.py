"""Radii in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Executor

from ..backends import Backend
from ..executors import opened
from ..model.default_device import cpu_by_default
from ..model.directions import Directions
from ..model.landscape import Landscape
from ..search.radii import Radii
from .options import SearchOptions
from .solver import RaySolver, check_types


@cpu_by_default
def find_radii(
    landscape: Landscape,
    directions: Directions,
    cutoffs: Sequence[float],
    *,
    scaling: str = "filter",
    search: str = "interpolate",
    rtol: float = 1e-4,
    resolve: str = "all",
    radius_max: float | None = None,
    max_steps: int = 100,
    grid: Sequence[float] | None = None,
    backend: str | Backend = "auto",
    num_threads: int | None = None,
    precision: str | None = None,
    compile: bool = False,
    progress: bool = False,
    executor: Executor | str | None = None,
) -> Radii:
    """Boundary radii for every level, cutoff and direction, in one pass. [L, C, D]

    An evaluation serves every level and cutoff of its ray. A cutoff below the loss at the center is not an error here:
    its rays have status CENTER_OUTSIDE and radius 0.

    >>> import basinvol as bv
    >>> model, loss_fn, data = bv.ground_truth.ball(3).task()  # loss |w|^2
    >>> directions = bv.Directions(bv.ParameterSpace.of(model), count=5)
    >>> radii = bv.find_radii(bv.Landscape(model, loss_fn, data), directions, cutoffs=[1.0, 9.0], scaling="none")
    >>> radii.radius.shape
    torch.Size([1, 2, 5])
    >>> [round(radius, 3) for radius in radii.at(cutoff=9.0).radius.tolist()]
    [3.0, 3.0, 3.0, 3.0, 3.0]
    >>> bool((radii.value_lower <= radii.value_upper).all())
    True

    Args:
        landscape: the loss and its levels.
        directions: which rays.
        cutoffs: losses that bound the basin, in any order.
        scaling: "filter" or "none", see `ParameterSpace.scale`; radii are in units of that scale.
        search: "interpolate", "bisect" or "grid", see `SearchSettings`.
        rtol: relative width at which a bracket is closed; rays that decide a volume are refined further.
        resolve: "all", every radius; "decisive", the first 8 to 32 in full, and of the others only those long enough
            to matter: the rest are NEGLIGIBLE, with an upper bound, and together worth less than 1e-6 nats.
        radius_max: rays still inside there are CENSORED; default 1e6 sqrt(P).
        max_steps: most evaluations for one level and cutoff of one ray.
        grid: coefficients for search="grid", default linspace(0, 1, 100)^2; a ray's radii are these times the norm of
            its Gaussian vector, about sqrt(P).
        backend: "auto", "native" (C++, on the CPU), "triton" or "cuda" (on a CUDA device), "torch" (any
            module, anywhere), "reference" (the same plainly), one that a package registered, or an object, see
            `basinvol.backends.Backend`.
        num_threads: default torch's number; the result does not depend on it.
        precision: precision of the products: "fp32", "fp16x3" or "tf32x3" (tensor cores, as exact), or "tf32"
            (proposes radii that tf32x3 certifies); default the backend's best that is as exact as float32.
        compile: whether the backend "torch" evaluates the model through torch.compile; "auto" then takes this backend,
            others refuse. It needs a C++ compiler on the CPU, and takes seconds to minutes before the first ray.
        progress: whether to show a bar, on a terminal or in a notebook.
        executor: where blocks of directions are searched, instead of in this process: any
            `concurrent.futures.Executor`, or one in words, such as "local:4" or "ray", see `docs/scale.md`. The radii
            are the same, byte for byte; each worker uses `num_threads` threads, by default one.

    Raises:
        ValueError: an argument is bad, or the model, its loss or its data cannot be pickled for an executor.
        BackendUnavailable: the named backend cannot solve this problem.
        RaySearchFailed: an evaluation failed; the error carries the radii found so far.
    """
    options = SearchOptions(
        search=search,
        rtol=rtol,
        resolve=resolve,
        radius_max=radius_max,
        max_steps=max_steps,
        grid=grid,
        backend=backend,
        num_threads=num_threads,
        precision=precision,
        compile=compile,
    )
    check_types(landscape, directions)
    num_gpus = int(landscape.device.type == "cuda")
    with opened(executor, num_threads or 1, num_gpus) as workers:
        options = dataclasses.replace(options, executor=workers)
        return RaySolver(landscape, directions, cutoffs, scaling=scaling, options=options).solve_all(progress)
