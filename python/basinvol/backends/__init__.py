"""Where rays are solved: the registry of backends."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Choice:
    """The backend that runs, and why it was chosen."""

    backend: Backend
    reason: str


def backends() -> dict[str, Backend]:
    """All backends by name, in the order in which "auto" tries them."""
    from .cuda import CudaBackend
    from .native import NativeBackend
    from .reference import ReferenceBackend
    from .triton.backend import TritonBackend

    return {backend.name: backend for backend in (NativeBackend(), TritonBackend(), CudaBackend(), ReferenceBackend())}


def choose(name: str, problem: RayProblem) -> Choice:
    """The backend of this name, or for "auto" the first that can solve the problem.

    Raises:
        ValueError: unknown name.
        BackendUnavailable: the named backend can not run here or can not solve this; it never falls back.
    """
    known = backends()
    device = problem.landscape.device
    if name == "auto":
        refusals: list[str] = []
        for backend in known.values():
            refusal = _refusal(backend, problem)
            if refusal is None:
                reason = "; ".join(refusals) or "the fastest that supports this model, loss and device"
                return Choice(backend, reason)
            refusals.append(f"not {backend.name}: {refusal}")
        raise BackendUnavailable(f"no backend can run on {device}: {'; '.join(refusals)}.")
    if name not in known:
        raise ValueError(f"`backend` must be 'auto' or one of {', '.join(map(repr, known))}, got {name!r}.")
    refusal = _refusal(known[name], problem)
    if refusal is not None:
        raise BackendUnavailable(
            f"backend {name!r} can not be used: {refusal}; choose backend='auto' to take one that can."
        )
    return Choice(known[name], "asked for by name")


def _refusal(backend: Backend, problem: RayProblem) -> str | None:
    refusal = backend.unusable(problem.landscape.device) or backend.unsupported(problem)
    if refusal is None and problem.precision not in (None, *backend.precisions):
        return f"it computes in {', '.join(backend.precisions)}, not in {problem.precision}"
    return refusal
