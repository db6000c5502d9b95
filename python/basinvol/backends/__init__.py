"""The backends that solve rays, by name, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, cast

from .problem import PRECISIONS, Backend, BackendUnavailable, Engine, RayProblem, Resources

__all__ = [
    "PRECISIONS",
    "Backend",
    "BackendUnavailable",
    "Choice",
    "Engine",
    "RayProblem",
    "Resources",
    "backends",
    "choose",
]


ENTRY_POINTS = "basinvol.backends"
_MEMBERS = ("name", "precisions", "direction_kinds", "unusable", "unsupported", "prepare")


@dataclass(frozen=True)
class Choice:
    """The backend that runs, and the reason why it was chosen."""

    backend: Backend
    reason: str


def backends() -> dict[str, Backend]:
    """All backends by name, in the order in which "auto" tries them."""
    # Imported here, so that what a backend needs is loaded only when backends are asked for.
    from .cuda import CudaBackend
    from .native import NativeBackend
    from .pytorch import TorchBackend
    from .reference import ReferenceBackend
    from .triton.backend import TritonBackend

    every = (NativeBackend(), TritonBackend(), CudaBackend(), TorchBackend(), ReferenceBackend())
    return {backend.name: backend for backend in every}


def choose(wanted: str | Backend, problem: RayProblem) -> Choice:
    """The backend that was asked for, or for "auto" the first that can solve the problem.

    Args:
        wanted: "auto", the name of a backend of basinvol or of an entry point of the group "basinvol.backends", or a
            backend itself.
        problem: what the backend has to solve.

    Raises:
        ValueError: the name is unknown, or the object is not a backend.
        BackendUnavailable: the named backend cannot run here or cannot solve this problem; it never falls back.
    """
    if wanted == "auto":
        return _first_usable(problem)
    backend = _named(wanted) if isinstance(wanted, str) else _checked(wanted)
    if problem.compile and not _compiles(backend):
        raise BackendUnavailable(
            f"backend {backend.name!r} does not compile models with torch.compile; pass compile=False, or choose "
            "backend='torch'."
        )
    refusal = _refusal(backend, problem)
    if refusal is not None:
        raise BackendUnavailable(
            f"backend {backend.name!r} cannot be used: {refusal}; choose backend='auto' to take one that can."
        )
    return Choice(backend, "asked for by name" if isinstance(wanted, str) else "passed as an object")


def _first_usable(problem: RayProblem) -> Choice:
    refusals: list[str] = []
    for backend in backends().values():
        refusal = _only_by_name(backend, problem) or _refusal(backend, problem)
        if refusal is None:
            reason = "; ".join(refusals) or "the fastest that supports this model, loss and device"
            return Choice(backend, reason)
        refusals.append(f"not {backend.name}: {refusal}")
    raise BackendUnavailable(f"no backend can run on {problem.landscape.device}: {'; '.join(refusals)}.")


def _named(name: str) -> Backend:
    known = backends()
    if name in known:
        return known[name]
    registered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in registered:
        names = ", ".join(map(repr, (*known, *registered)))
        raise ValueError(f"`backend` must be 'auto' or one of {names}, got {name!r}; a backend itself will do too.")
    return _checked(registered[name].load()())


def _checked(backend: object) -> Backend:
    missing = [member for member in _MEMBERS if not hasattr(backend, member)]
    if missing or isinstance(backend, type):
        what = f"the class {backend.__name__}" if isinstance(backend, type) else f"a {type(backend).__name__}"
        lacks = f" without {', '.join(missing)}" if missing else "; pass an instance"
        raise ValueError(f"`backend` must be a name or an object with {', '.join(_MEMBERS)}, got {what}{lacks}.")
    found: Any = backend
    return cast(Backend, found)


def _refusal(backend: Backend, problem: RayProblem) -> str | None:
    if problem.compile and not _compiles(backend):
        return "it does not compile models with torch.compile"
    # The device first: a backend that cannot run here need not read the model.
    refusal = backend.unusable(problem.landscape.device) or backend.unsupported(problem)
    if refusal is not None:
        return refusal
    kind = problem.directions.kind
    if backend.direction_kinds and kind not in backend.direction_kinds:
        return f"it makes directions of the kinds {', '.join(backend.direction_kinds)} itself, and these are {kind}"
    if problem.precision not in (None, *backend.precisions):
        return f"it computes in {', '.join(backend.precisions)}, not in {problem.precision}"
    return None


def _only_by_name(backend: Backend, problem: RayProblem) -> str | None:
    """The reason why "auto" passes over a backend that would do, or None; again, others need not have the member."""
    reason = getattr(backend, "only_by_name", None)
    return None if reason is None or backend.unusable(problem.landscape.device) is not None else reason(problem)


def _compiles(backend: Backend) -> bool:
    return bool(getattr(backend, "compiles", False))  # a member that backends of other packages need not have
