"""The cases that have goals, in each engine's default precision, the most important first."""

from __future__ import annotations

from collections.abc import Callable

from ..cases import Case
from .device import usable
from .lines import Lines
from .rates import measure_rates
from .search import images, measure

CASES: dict[str, Callable[[], Case]] = {
    "mnist-60000": lambda: images("mnist-60000", [784, 256, 128, 10], 60_000, 0.2, 500, 4),
    "mnist-60": lambda: images("mnist-60", [784, 256, 128, 10], 60, 0.2, 500, 8),
    "cifar-50000": lambda: images("cifar-50000", [3072, 512, 256, 10], 50_000, 1.0, 500, 2),
}
# The goal of each case in seconds, by the value of `resolve`.
GOALS = {
    ("mnist-60000", "all"): 1.0,
    ("mnist-60000", "decisive"): 0.15,
    ("mnist-60", "all"): 0.05,
    ("cifar-50000", "all"): 8.0,
}


def goals(lines: Lines) -> None:
    """Measure every goal with every engine; a line says the time and the goal, and whether the answers hold."""
    rates: dict[str, float] = {}
    with lines.measuring("rates") as found:
        rates = measure_rates()
        found |= rates
    for name in CASES:
        made: list[Case] = []
        with lines.measuring(f"{name}: data and training"):
            made.append(CASES[name]())
        for case in made:
            for backend in usable():
                for mode in [mode for known, mode in GOALS if known == name]:
                    with lines.measuring(f"{name}, {backend}, {mode}") as found:
                        found |= measure(case, backend, None, mode, rates)
                        found |= {"goal_s": GOALS[name, mode], "meets": found["seconds"]["median"] <= GOALS[name, mode]}
