"""The loss of a model on fixed data, as a function of its parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

LossFunction = Callable[[Tensor, Tensor], Tensor]

# Two evaluations at the same parameters may differ by this much, relatively: the order of float32 sums on a GPU.
_DETERMINISM_RTOL = 1e-6
# How far a mean over examples may be from the weighted mean of its halves: float32 rounding, with room.
_MEAN_RTOL = 1e-4


class Landscape:
    """Mean loss over nested prefixes ("levels") of one ordered data set.

    The model is only ever called through `torch.func.functional_call`, in eval mode, on copies of its buffers; its
    parameters, buffers and training flags, and torch's random state, are left as they were.

    Args:
        model: any module that maps a batch of inputs [n, ...] to outputs [n, ...].
        loss_fn: loss_fn(outputs, targets) -> mean loss over the batch, a scalar.
        data: (inputs [N, ...], targets [N, ...]), or an iterable of such batches, for example a DataLoader; it is
            read once, in its order.
        levels: increasing numbers of examples, each a prefix of the data; default [N].
        device: where to evaluate; default the device of the model's first parameter.
        batch_size: most examples per forward pass of the reference backend; memory only, not the result.

    Raises:
        ValueError: empty or inconsistent data, NaN or infinity in the inputs, bad levels, an unavailable device, a
            loss that is not a scalar mean, or one that differs between two evaluations of the same parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        data: tuple[Tensor, Tensor] | Iterable[Any],
        levels: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        batch_size: int = 8192,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        if getattr(loss_fn, "reduction", "mean") == "sum":
            raise ValueError(
                "the loss is not a mean over examples: `loss_fn` has reduction='sum'; use reduction='mean'."
            )
        self.model = model
        self.loss_fn = loss_fn
        self.device = _resolve_device(model, device)
        inputs, targets = _read_data(data)
        _check_examples(inputs, targets)
        self.levels = _check_levels(levels, len(inputs))
        self.inputs = inputs[: self.levels[-1]].to(self.device)
        self.targets = targets[: self.levels[-1]].to(self.device)
        self.batch_size = batch_size
        self._buffers = {name: b.detach().clone().to(self.device) for name, b in model.named_buffers()}
        self._center = {name: p.detach().to(self.device) for name, p in model.named_parameters()}
        self._check_center()

    @property
    def num_examples(self) -> int:
        """N, the number of examples in the largest level."""
        return self.levels[-1]

    def losses(self, parameters: Mapping[str, Tensor] | None = None, num_levels: int | None = None) -> Tensor:
        """Mean loss on each of the first `num_levels` levels, summed in float64 in data order. [num_levels] float64

        Args:
            parameters: named tensors that replace the model's; the others, and all by default, are the model's own.
        """
        with self.measuring():
            return self.evaluate(parameters, num_levels)

    def evaluate(self, parameters: Mapping[str, Tensor] | None = None, num_levels: int | None = None) -> Tensor:
        """As `losses`, for a caller that holds `measuring()` around many evaluations."""
        replaced = {**self._center, **(parameters or {})}
        means, total, start = [], torch.zeros((), dtype=torch.float64, device=self.device), 0
        for stop in self.levels[:num_levels]:
            for first in range(start, stop, self.batch_size):
                last = min(first + self.batch_size, stop)
                total = total + self._mean_loss(replaced, first, last).double() * (last - first)
            means.append(total / stop)
            start = stop
        return torch.stack(means)

    def gradient(self, parameters: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """Mean loss on the largest level, and its gradient with respect to the named tensors. Costs three evaluations.

        Parameters that the loss does not depend on have a gradient of zeros. Batches are summed in data order.
        """
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        replaced = {**self._center, **leaves}
        total = 0.0
        gradients = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        with self.measuring(), torch.enable_grad():
            for first in range(0, self.num_examples, self.batch_size):
                last = min(first + self.batch_size, self.num_examples)
                loss = self._mean_loss(replaced, first, last) * ((last - first) / self.num_examples)
                total += float(loss.detach())
                if loss.requires_grad:
                    parts = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
                    for name, part in zip(leaves, parts, strict=True):
                        gradients[name] += 0.0 if part is None else part
        return total, gradients

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Eval mode without gradients; training flags and torch's random state are restored on the way out."""
        flags = [(module, module.training) for module in self.model.modules()]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            self.model.eval()
            try:
                yield
            finally:
                for module, flag in flags:
                    module.training = flag

    def _mean_loss(self, parameters: Mapping[str, Tensor], first: int, last: int) -> Tensor:
        outputs = functional_call(self.model, {**self._buffers, **parameters}, (self.inputs[first:last],))
        loss = self.loss_fn(outputs, self.targets[first:last])
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise ValueError(
                f'`loss_fn` must return the mean loss of the batch as a scalar tensor, got {got}; use reduction="mean".'
            )
        return loss.reshape(())

    def _check_center(self) -> None:
        for name, p in self._center.items():
            if p.is_floating_point() and not bool(torch.isfinite(p).all()):
                raise ValueError(
                    f"parameter {name!r} holds NaN or infinity: a diverged network has no basin; "
                    "train again or load an earlier checkpoint."
                )
        with self.measuring():  # once around both, or random numbers would repeat and hide dropout
            self._check_labels()
            first, second = self.evaluate(), self.evaluate()
        if not torch.allclose(first, second, rtol=_DETERMINISM_RTOL, atol=0.0, equal_nan=True):
            raise ValueError(
                f"the loss is not deterministic: two evaluations at the center gave {float(first[-1]):.9g} and "
                f"{float(second[-1]):.9g} in eval mode. {self._suspects()}"
            )
        splits = len(self.levels) > 1 or self.num_examples > self.batch_size
        if splits and self.num_examples > 1:
            self._check_mean()

    def _check_mean(self) -> None:
        """Levels and batches are summed, which is right only for a mean over examples."""
        count = min(self.num_examples, self.batch_size, 512)
        half = (count + 1) // 2
        with self.measuring():
            whole = float(self._mean_loss(self._center, 0, count))
            left = float(self._mean_loss(self._center, 0, half))
            right = float(self._mean_loss(self._center, half, count)) if half < count else 0.0
        summed = (left * half + right * (count - half)) / count
        if abs(whole - summed) > _MEAN_RTOL * max(abs(whole), abs(left), abs(right)):
            raise ValueError(
                f"the loss is not a mean over examples: {count} examples give {whole:.6g}, their two halves average "
                f'to {summed:.6g}. Use reduction="mean" without class weights. {self._suspects()}'
            )

    def _check_labels(self) -> None:
        is_class_loss = self.loss_fn is F.cross_entropy or isinstance(self.loss_fn, (nn.CrossEntropyLoss, nn.NLLLoss))
        if not is_class_loss or self.targets.is_floating_point():
            return
        outputs = functional_call(self.model, {**self._buffers, **self._center}, (self.inputs[:1],))
        ignored = getattr(self.loss_fn, "ignore_index", -100)
        labels = self.targets[self.targets != ignored]
        num_classes = outputs.shape[1] if outputs.ndim > 1 else outputs.shape[0]
        if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
            raise ValueError(
                f"the targets in `data` must be labels between 0 and {num_classes - 1}, the model's outputs, got "
                f"labels from {int(labels.min())} to {int(labels.max())}."
            )

    def _suspects(self) -> str:
        dropout = [n for n, m in self.model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
        batch = [
            n
            for n, m in self.model.named_modules()
            if isinstance(m, nn.modules.batchnorm._NormBase) and not m.track_running_stats
        ]
        found = [f"dropout in {n!r}" for n in dropout] + [f"batch statistics in {n!r}" for n in batch]
        if found:
            return f"Suspects: {', '.join(found)}."
        return "Look for functional dropout (training=True), sampling, or batch statistics in forward()."


def _resolve_device(model: nn.Module, device: torch.device | str | None) -> torch.device:
    if device is None:
        first = next(model.parameters(), None)
        return first.device if first is not None else torch.device("cpu")
    resolved = torch.device(device)
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` is {str(resolved)!r}, but no CUDA device is available; use device='cpu'.")
    return resolved


def _read_data(data: tuple[Tensor, Tensor] | Iterable[Any]) -> tuple[Tensor, Tensor]:
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        inputs, targets = data
    else:
        batches = list(data)
        for batch in batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(
                    "`data` must be (inputs, targets) tensors or give batches of two tensors, "
                    f"got a {type(batch).__name__}."
                )
        if not batches:
            raise ValueError("`data` is empty: a loss needs at least one example.")
        inputs = torch.cat([batch[0] for batch in batches])
        targets = torch.cat([batch[1] for batch in batches])
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise ValueError(
            "`data` must hold as many targets as inputs, got inputs of shape "
            f"{list(inputs.shape)} and targets of shape {list(targets.shape)}."
        )
    if len(inputs) == 0:
        raise ValueError("`data` is empty: a loss needs at least one example.")
    return inputs.detach(), targets.detach()


def _check_examples(inputs: Tensor, targets: Tensor) -> None:
    for name, values in (("inputs", inputs), ("targets", targets)):
        if values.is_floating_point():
            bad = ~torch.isfinite(values.reshape(len(values), -1)).all(dim=1)
            if bool(bad.any()):
                raise ValueError(
                    f"the {name} in `data` hold NaN or infinity in {int(bad.sum())} of {len(values)} examples, "
                    f"the first is example {int(bad.nonzero()[0])}; remove or repair them."
                )


def _check_levels(levels: Sequence[int] | None, num_examples: int) -> tuple[int, ...]:
    if levels is None:
        return (num_examples,)
    checked = tuple(int(level) for level in levels)
    increasing = all(a < b for a, b in zip((0, *checked), checked, strict=False))
    if not checked or not increasing or checked[-1] > num_examples:
        raise ValueError(
            f"`levels` must be increasing numbers of examples between 1 and {num_examples}, got {list(levels)}."
        )
    return checked
