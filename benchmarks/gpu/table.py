"""All cases with every engine and precision, and PyTorch's ways on the same device: loop, bisection, vmap, compiled."""

from __future__ import annotations

import time
from collections.abc import Callable

import basinvol as bv
from basinvol.backends import backends

from ..__main__ import moves_of, time_baselines
from ..cases import Case, modular_addition, swiss_roll
from .device import IS_REHEARSAL, make_room, usable
from .goals import CASES as GOAL_CASES
from .lines import Lines
from .rates import measure_rates
from .search import measure, on_device, solver_of

CASES: dict[str, Callable[[], Case]] = {
    **GOAL_CASES,
    **({} if IS_REHEARSAL else {"swiss-roll": lambda: on_device(swiss_roll())}),
    **({} if IS_REHEARSAL else {"modular": lambda: on_device(modular_addition())}),
}


def table(lines: Lines, deadline: float) -> None:
    """Measure until the deadline, of `time.monotonic`; what is left out is a line too."""
    rates: dict[str, float] = {}
    with lines.measuring("rates") as found:
        rates = measure_rates()
        found |= rates
    for name, make in CASES.items():
        made: list[Case] = []
        if not _has_time(lines, name, deadline):
            continue
        with lines.measuring(f"{name}: data and training"):
            made.append(make())
        for case in made:
            for backend in usable():
                for precision in backends()[backend].precisions:
                    for mode in ("all", "decisive"):
                        what = f"{name}, {backend}, {precision}, {mode}"
                        if _has_time(lines, what, deadline):
                            with lines.measuring(what) as found:
                                found |= measure(case, backend, precision, mode, rates)
            if _has_time(lines, f"{name}, PyTorch", deadline):
                _baselines(lines, name, case)


def _baselines(lines: Lines, name: str, case: Case) -> None:
    for compiles in (False, True):
        with lines.measuring(f"{name}, PyTorch{' with torch.compile' if compiles else ''}") as found:
            make_room()
            radii = solver_of(case, usable()[0], None, "all").solve_all()
            moves, norms = moves_of(case, bv.Directions(bv.ParameterSpace.of(case.model), case.num_directions))
            found["seconds"] = time_baselines(case, moves, norms, radii, compiles=compiles)


def _has_time(lines: Lines, what: str, deadline: float) -> bool:
    if time.monotonic() < deadline:
        return True
    lines.add(what, reason="not begun: no time left", measured=False)
    return False
