"""A model's floating-point parameters as one flat vector, by name."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..inputs.half import measured_dtype
from ..inputs.module import read_model
from .scale import Scale

_MOST_NAMES = 3  # parameters that a sentence names of those left out for one reason


@dataclass(frozen=True)
class ParameterSpace:
    """Says which parameters are perturbed, and where each lies in the flat vector [P].

    Tied parameters are one entry, under the first of their names. The space holds names and shapes only: it never
    keeps or changes a model.

    Attributes:
        names: parameter names in model order.
        shapes: their shapes.
        dtypes: dtypes of the parameters, to which `unflatten` converts; float32 for those in half precision.
        left_out: name, number of elements and reason of every parameter that is not perturbed.
        num_frozen: how many elements are perturbed although they have `requires_grad=False`.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    left_out: tuple[tuple[str, int, str], ...] = ()
    num_frozen: int = 0

    @classmethod
    def of(
        cls,
        model: nn.Module,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        trainable_only: bool = False,
    ) -> ParameterSpace:
        """The space of `model`'s floating-point parameters.

        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> ParameterSpace.of(model).dim
        23
        >>> ParameterSpace.of(model, exclude="*.bias").describe()
        "18 of 23 are perturbed; left out: 0.bias (3), 2.bias (2): exclude='*.bias'"

        Args:
            model: the module; only the names, shapes and dtypes of its parameters are read.
            include: glob or globs on parameter names; only parameters that match one are kept.
            exclude: glob or globs on parameter names; parameters that match one are left out.
            trainable_only: whether to leave out parameters with `requires_grad=False`.

        Raises:
            ValueError: nothing is left to perturb, a glob matches no parameter, or a parameter is complex.
        """
        every = dict(read_model(model).named_parameters())
        parameters = {name: p for name, p in every.items() if p.is_floating_point() or p.is_complex()}
        included = set(parameters) if include is None else _matching(parameters, include, "include")
        excluded = set() if exclude is None else _matching(parameters, exclude, "exclude")
        reasons = {}
        for name, p in every.items():
            if name not in parameters:
                reasons[name] = f"it is {p.dtype}"
            elif name not in included:
                reasons[name] = f"include={include!r}"
            elif name in excluded:
                reasons[name] = f"exclude={exclude!r}"
            elif trainable_only and not p.requires_grad:
                reasons[name] = "frozen"
        kept = {name: p for name, p in every.items() if name not in reasons}
        if not any(p.numel() for p in kept.values()):
            raise ValueError(
                f"the model has no parameter to perturb: {len(parameters)} floating-point parameters, none left "
                f"after include={include!r}, exclude={exclude!r}, trainable_only={trainable_only}."
            )
        for name, p in kept.items():
            if p.is_complex():
                raise ValueError(
                    f"parameter {name!r} is {p.dtype}, and directions are real: leave it out with exclude={name!r}, or "
                    "hold its real and imaginary parts as two real parameters."
                )
        return cls(
            names=tuple(kept),
            shapes=tuple(p.shape for p in kept.values()),
            dtypes=tuple(measured_dtype(p.dtype) for p in kept.values()),
            left_out=tuple((name, every[name].numel(), reason) for name, reason in reasons.items()),
            num_frozen=sum(p.numel() for p in kept.values() if not p.requires_grad),
        )

    def describe(self) -> str:
        """How many of the model's parameters are perturbed, and which are left out and why, in one line."""
        total = self.dim + sum(count for _, count, _ in self.left_out)
        text = f"{self.dim:,} of {total:,} are perturbed"
        if self.num_frozen:
            text += f", {self.num_frozen:,} of them frozen (trainable_only=True leaves those out)"
        reasons: dict[str, list[str]] = {}
        for name, count, reason in self.left_out:
            reasons.setdefault(reason, []).append(f"{name} ({count:,})")
        parts = []
        for reason, names in reasons.items():
            shown = ", ".join(names[:_MOST_NAMES]) + (
                f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            )
            parts.append(f"{shown}: {reason}")
        return text + (f"; left out: {'; '.join(parts)}" if parts else "")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Position of each parameter's first element in the flat vector."""
        offsets, total = [], 0
        for size in self.sizes:
            offsets.append(total)
            total += size
        return tuple(offsets)

    @property
    def dim(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the flat vector: float64 when any parameter is, else float32."""
        return torch.float64 if torch.float64 in self.dtypes else torch.float32

    def flatten(self, model: nn.Module) -> Tensor:
        """A copy of the model's parameters as one vector. [P]"""
        parameters = dict(read_model(model).named_parameters())
        missing = [name for name in self.names if name not in parameters]
        if missing:
            raise ValueError(f"the model has no parameter {missing[0]!r}; it is not the one this space was made of.")
        return torch.cat([parameters[name].detach().to(self.dtype).reshape(-1) for name in self.names])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """The named tensors of a flat vector [P], which are views of it wherever the dtype allows."""
        if vector.shape != (self.dim,):
            raise ValueError(f"`vector` must have shape [{self.dim}], got {list(vector.shape)}.")
        pieces = torch.split(vector, list(self.sizes))
        return {
            name: piece.view(shape).to(dtype)
            for name, piece, shape, dtype in zip(self.names, pieces, self.shapes, self.dtypes, strict=True)
        }

    def scale(self, model: nn.Module, scaling: str = "filter") -> Tensor:
        """The positive factor of every parameter, the diagonal of S. [P]

        With "filter" (Li et al. 2018, as used by Fan, Sandlund and Ko 2025) it is, for a tensor of rank two or more,
        the norm of the weights of the parameter's own output unit (first dimension), and one for biases and other
        tensors of rank one. A filter of zeros has scale 0 and is not perturbed; see `zero_filters`. With "none" it is
        one everywhere.
        """
        return self.scale_by_tensor(model, scaling).vector()

    def scale_by_tensor(self, model: nn.Module, scaling: str = "filter") -> Scale:
        """The same factors without a vector of all: few are different, and a network may have a billion parameters."""
        parameters = dict(read_model(model).named_parameters())
        return Scale.of([parameters[name].detach() for name in self.names], scaling, self.dtype)

    def zero_filters(self, scale: Tensor) -> dict[str, int]:
        """Parameters with elements of scale 0, which directions cannot move, and how many elements each has."""
        counts = [int((piece == 0).sum()) for piece in torch.split(scale, list(self.sizes))]
        return {name: count for name, count in zip(self.names, counts, strict=True) if count}


def _matching(parameters: Mapping[str, Tensor], globs: str | Sequence[str], argument: str) -> set[str]:
    matches: set[str] = set()
    for glob in [globs] if isinstance(globs, str) else globs:
        found = fnmatch.filter(parameters, glob)
        if not found:
            known = ", ".join(parameters) or "(no parameter)"
            raise ValueError(f"`{argument}` has the glob {glob!r}, which matches none of: {known}.")
        matches.update(found)
    return matches
