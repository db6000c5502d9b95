"""Curvatures of a basin along its coordinates, from radii, gradients, second derivatives or an optimizer's state.

A curvature g is in units of the basin: the model is the ellipsoid {sum g_i x_i^2 <= 1}, with x in scaled coordinates.
It only shapes a proposal, whose density is divided out exactly: a wrong g costs precision, never correctness.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..model.landscape import GRADIENT_COST, Landscape
from ..model.parameters import ParameterSpace

# Smaller curvatures are set to this share of the mean: the measure decides what is flatter, not the fit.
_FLOOR = 1e-6
_PENALTIES = torch.logspace(-12, 3, 46, dtype=torch.float64)  # of the ridge, relative to the mean eigenvalue
_CHUNK = 8192  # examples per forward pass of a Hessian-vector product


def feature_groups(space: ParameterSpace, grouping: str) -> tuple[Tensor, int]:
    """The group that each parameter belongs to [P], and the number of groups.

    With "diagonal" every parameter is its own group; with "grouped" the groups are the rows (output units) of a tensor
    of rank two or more, and every other tensor as a whole.
    """
    if grouping == "diagonal":
        return torch.arange(space.dim), space.dim
    labels, count = [], 0
    for shape, size in zip(space.shapes, space.sizes, strict=True):
        rows = shape[0] if len(shape) > 1 else 1
        labels.append(count + torch.arange(rows).repeat_interleave(max(size // max(rows, 1), 1)))
        count += rows
    return torch.cat(labels), count


def group_sums(squares: Tensor, groups: Tensor, count: int) -> Tensor:
    """The sums of u_i^2 over each group. [n, count]

    Args:
        squares: u_i^2 of n vectors. [n, P]
        groups: the group of each parameter. [P] int64
        count: number of groups.
    """
    return torch.zeros((len(squares), count), dtype=squares.dtype).index_add_(1, groups, squares)


def fit_radii(features: Tensor, radius: Tensor) -> Tensor:
    """Group curvatures from radii along uniform directions: 1/r^2 is linear in them for an ellipsoid. [F]

    Ridge regression towards the mean of 1/r^2, its penalty chosen by generalized cross-validation (Golub, Heath and
    Wahba 1979). No curvature is taken below its own standard error, because a proposal that is too long along one axis
    does more harm than one that is too short. Exact for an axis-aligned ellipsoid once there are more rays than groups;
    for a rotated one what it leaves is noise.

    Args:
        features: sums from `group_sums`, whose rows sum to 1. [n, F]
        radius: boundary radius along each direction, in scaled coordinates. [n] float64
    """
    target = radius.double() ** -2.0
    mean = target.mean()
    count = len(target)
    values, vectors = torch.linalg.eigh(features.T @ features)
    values = values.clamp(min=0.0)
    projected = vectors.T @ (features.T @ (target - mean))
    total = float(((target - mean) ** 2).sum())
    best = (math.inf, torch.zeros_like(values), 0.0)
    # One eigendecomposition serves every penalty of the ridge.
    for penalty in (_PENALTIES * values.mean()).tolist():
        damped = values + penalty
        coefficients = torch.where(damped > 0, projected / damped, 0.0)
        residual = total - float((2.0 * projected * coefficients - values * coefficients**2).sum())
        freedom = count - float((values / damped).sum())
        if freedom >= 1.0:
            score = max(residual, 1e-12 * total) / freedom**2
            if score < best[0]:
                variance = max(residual, 0.0) / freedom
                best = (score, coefficients, variance)
                spread = vectors.square() @ (values / damped**2)
    _, coefficients, variance = best
    curvature = mean + vectors @ coefficients
    return torch.maximum(curvature, (variance * spread).sqrt()).clamp(min=_FLOOR * float(mean))


def fit_secants(points: Tensor, gradients: Tensor, rise: float) -> tuple[Tensor, Tensor]:
    """The curvatures and axes of the quadratic whose gradients are closest to those at some points. [P], [P, P]

    The estimate H = (sum g x') (sum x x')^-1, symmetrized, is exact for a quadratic once there are P points, rotated or
    not.

    Args:
        points: offsets from the center to the boundary, in scaled coordinates. [n, P]
        gradients: gradients of the loss at these points, in scaled coordinates. [n, P]
        rise: cutoff minus the loss at the center.
    """
    gram, cross = points.T @ points, points.T @ gradients
    ridge = 1e-10 * float(gram.diagonal().mean())
    hessian = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), cross)
    values, vectors = torch.linalg.eigh(0.5 * (hessian + hessian.T) / (2.0 * rise))
    return values.clamp(min=_FLOOR * float(values.abs().mean())), vectors


def hessian_diagonal(
    landscape: Landscape, space: ParameterSpace, center: Tensor, kind: str = "ggn", num_probes: int = 32, seed: int = 0
) -> Tensor:
    """The diagonal of the loss's Hessian or generalized Gauss-Newton matrix at the center, by Hutchinson's method. [P]

    The mean of z * (Hz) over random signs z (Bekas, Kokiopoulou and Saad 2007) is unbiased, with a relative error of
    about sqrt(off-diagonal sum of squares / num_probes) / diagonal. Each probe costs about six evaluations of the loss.
    Only the curvature at the center is seen: a basin with a flat bottom and steep walls has none.

    Args:
        landscape: the loss.
        space: which parameters are perturbed.
        center: the trained parameters. [P]
        kind: "ggn" (J' H_out J, positive semidefinite) or "hessian".
        num_probes: number of random sign vectors z.
        seed: seed of the signs.
    """
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(space.dim, dtype=torch.float64)
    with landscape.measuring(), torch.enable_grad():
        for _ in range(num_probes):
            signs = (torch.randint(0, 2, (space.dim,), generator=generator) * 2.0 - 1.0).to(center)
            total += (signs * _curvature_product(landscape, space, center, signs, kind)).double().cpu()
    return total / num_probes


def _curvature_product(landscape: Landscape, space: ParameterSpace, center: Tensor, v: Tensor, kind: str) -> Tensor:
    """The product Hv for one kind of H, by reverse mode twice, which every operation of torch has."""
    product = torch.zeros_like(center)
    times = _times_ggn if kind == "ggn" else _times_hessian
    for first in range(0, landscape.num_examples, _CHUNK):
        last = min(first + _CHUNK, landscape.num_examples)
        if landscape.weight(first, last) > 0:
            product += times(landscape, space, center, v, range(first, last)) * landscape.share(first, last)
    landscape.count(2 * GRADIENT_COST)
    return product


def _times_hessian(landscape: Landscape, space: ParameterSpace, center: Tensor, v: Tensor, rows: range) -> Tensor:
    at = center.detach().requires_grad_()
    return _slope_product(landscape.loss_at(space.unflatten(at), rows.start, rows.stop), at, v)


def _times_ggn(landscape: Landscape, space: ParameterSpace, center: Tensor, v: Tensor, rows: range) -> Tensor:
    """The product J' H_out J v, with J of the outputs and H_out the second derivative of the loss in them."""
    at = center.detach().requires_grad_()
    outputs = landscape.outputs_at(space.unflatten(at), rows.start, rows.stop)
    u = torch.zeros_like(outputs, requires_grad=True)
    pulled_back = _gradient(outputs, at, u, create_graph=True)  # J'u
    tangent = _gradient(pulled_back, u, v, retain_graph=True)  # Jv, as J'u is linear in u
    result = outputs.detach().requires_grad_()
    loss = landscape.loss_of_outputs(space.unflatten(center), result, rows.start, rows.stop)
    return _gradient(outputs, at, _slope_product(loss, result, tangent))


def _slope_product(loss: Tensor, at: Tensor, v: Tensor) -> Tensor:
    """The second derivative of a loss in `at`, times a vector."""
    slope = _gradient(loss, at, torch.ones_like(loss), create_graph=True)
    return _gradient((slope * v).sum(), at, None)


def _gradient(of: Tensor, at: Tensor, along: Tensor | None, **graph: bool) -> Tensor:
    """The gradient of `of`, weighted by `along`, with respect to `at`; zeros where `of` does not depend on `at`."""
    if not of.requires_grad:
        return torch.zeros_like(at)
    found = torch.autograd.grad(of, at, along, allow_unused=True, **graph)[0]
    return torch.zeros_like(at) if found is None else found


def adam_curvature(optimizer: torch.optim.Optimizer, model: nn.Module, space: ParameterSpace) -> Tensor:
    """Adam's running mean of squared gradients as a curvature of the loss, up to a factor. [P]

    The squared gradients of an example estimate the diagonal of the Fisher matrix, which for a likelihood is the
    Gauss-Newton one (Kingma and Ba 2015, section 2); with full batches near a minimum they are mostly noise, so this is
    the cheapest of the fits and the worst.

    Args:
        optimizer: Adam or AdamW, after at least one step.
        model: the module that it trained.
        space: which parameters are perturbed.

    Raises:
        ValueError: the optimizer holds no such state for a parameter of the space.
    """
    named, parts = dict(model.named_parameters()), []
    for name in space.names:
        state = optimizer.state.get(named[name], {})
        if "exp_avg_sq" not in state:
            raise ValueError(f"`optimizer` holds no exp_avg_sq for {name!r}: it must be Adam or AdamW, after a step.")
        parts.append(state["exp_avg_sq"].detach().reshape(-1).double().cpu())
    return torch.cat(parts)


def as_curvature(diagonal: Tensor, scale: Tensor, radius: Tensor) -> Tensor:
    """Second derivatives in parameters as a curvature of the basin, in scaled coordinates. [P]

    The factor is set so that the mean of 1/r^2 along uniform directions is that of the radii.

    Args:
        diagonal: second derivatives of the loss, up to a factor. [P]
        scale: the positive factor of each parameter. [P]
        radius: boundary radii along uniform directions, in scaled coordinates. [n]

    Raises:
        ValueError: no second derivative is positive.
    """
    curvature = diagonal.double().cpu().clamp(min=0.0) * scale.double().cpu() ** 2
    mean = float(curvature.mean())
    if not mean > 0.0:
        raise ValueError("the curvature is not positive anywhere; fit it from the radii instead.")
    level = float((radius.double() ** -2.0).mean())
    return (curvature / mean).clamp(min=_FLOOR) * level
