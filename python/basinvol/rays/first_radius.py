"""Where the first rays look first: a short scan with a few examples, before anything is known of a basin's size."""

from __future__ import annotations

import math

from ..backends import RayProblem

_START_PER_ROOT_DIM = 0.1  # of trained networks, most radii are within a factor of ten of this times sqrt(P)
_MOST_DOUBLINGS = 40
_NUM_EXAMPLES = 64


def first_radius(problem: RayProblem, center_loss: float) -> tuple[float, int]:
    """A radius within a factor of two of where the loss of a few examples crosses the largest cutoff.

    It is a power of two times sqrt(2) 0.1 sqrt(P), so that no rounding of losses moves it: other threads or another
    backend begin at the same radius.

    Args:
        problem: the landscape, the first direction, the scale and the cutoffs.
        center_loss: the loss at the center, on all examples.

    Returns:
        The radius, and how many evaluations of all examples the scan was worth, rounded up.
    """
    scan = _Scan(problem)
    radius = _scanned(problem, center_loss, scan)
    return radius, scan.worth()


def _scanned(problem: RayProblem, center_loss: float, scan: _Scan) -> float:
    gap = max(problem.cutoffs) - center_loss
    start = _START_PER_ROOT_DIM * math.sqrt(problem.directions.space.dim)
    if not 0.0 < gap < math.inf:
        return start
    cutoff = scan.loss(0.0) + gap
    # Galloping, then bisection, on the exponent: outside at `outer`, inside at `inner`.
    step = -1 if not scan.loss(start) <= cutoff else 1
    inner, outer, reach = (None, 0, 1) if step < 0 else (0, None, 1)
    while inner is None or outer is None:
        if reach > _MOST_DOUBLINGS:
            return start
        exponent = step * reach
        if scan.loss(start * 2.0**exponent) <= cutoff:
            inner = exponent
        else:
            outer = exponent
        reach *= 2
    while outer - inner > 1:
        middle = (inner + outer) // 2
        if scan.loss(start * 2.0**middle) <= cutoff:
            inner = middle
        else:
            outer = middle
    return min(start * 2.0**inner * math.sqrt(2.0), problem.settings.radius_max)


class _Scan:
    """The loss of a few examples along the first direction."""

    def __init__(self, problem: RayProblem) -> None:
        self._landscape, self._copy = problem.landscape, problem.working_copy
        self._count = min(_NUM_EXAMPLES, self._landscape.batch_size, self._landscape.num_examples)
        self._num_calls = 0
        self._copy.aim(0)

    def loss(self, radius: float) -> float:
        self._num_calls += 1
        self._copy.place(radius)
        with self._landscape.measuring():
            return float(self._landscape.loss_at(self._copy.named, 0, self._count))

    def worth(self) -> int:
        return -(-self._num_calls * self._count // self._landscape.num_examples)
