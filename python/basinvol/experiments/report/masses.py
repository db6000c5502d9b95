"""What chains say of a run: its masses in place of the means over rays, and the claims held against them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..describe.description import Mass
from ..records.columns import MASS_KEYS
from ..records.reading import Run, basins
from .claims import Claim, Evidence, judge
from .tables import Table, tables_of_volumes

_CLEAR = 2.0  # masses differ where they do by more than so many standard errors of the difference
_OF_RAYS = ("order_survives",)  # claims about how rays are scaled


@dataclass(frozen=True)
class ByMass:
    """One measurement by chains.

    Attributes:
        mass: what was measured.
        claims: the claims, held against the masses.
        tables: all masses, a table for each cutoff.
        verdicts: number of masses by verdict.
    """

    mass: Mass
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    verdicts: dict[str, int]

    @property
    def title(self) -> str:
        """The measurement in a few words."""
        return f"log mass under a Gaussian of sigma {self.mass.sigma:g}, method {self.mass.method}"


def by_mass(run: Run) -> list[ByMass]:
    """All measurements by chains of a run, in the order in which they were asked for."""
    if run.masses is None:
        return []
    names = [name for name in run.settings["claims"] if name not in _OF_RAYS]
    found = []
    for measured in run.masses[["method", "sigma"]].drop_duplicates().to_dict("records"):
        mass = Mass(str(measured["method"]), float(measured["sigma"]))
        masses = run.masses[(run.masses["method"] == mass.method) & (run.masses["sigma"] == mass.sigma)]
        rows = in_place_of_volumes(run.volumes, masses)
        claims = tuple(_with_doubts(claim, rows) for claim in judge(rows, names))
        measured_as = f"{mass.method}, sigma {mass.sigma:g}"
        tables = [replace(part, caption=f"{part.caption}, {measured_as}") for part in tables_of_volumes(rows)]
        counts = {str(verdict): int(count) for verdict, count in masses["verdict"].value_counts().items()}
        found.append(ByMass(mass, claims, tuple(tables), counts))
    return found


def in_place_of_volumes(volumes: pd.DataFrame, masses: pd.DataFrame) -> pd.DataFrame:
    """The rows of volumes.csv with log masses in place of log mean r^P.

    A row of a network that is no minimum stays as it is, and one whose mass has no number is left out.

    Args:
        volumes: the rows of volumes.csv.
        masses: the rows of one measurement in masses.csv.
    """
    keys = list(MASS_KEYS)
    measured = masses.set_index(keys)[["log_mass", "standard_error", "verdict", "reason"]]
    joined = volumes.drop(columns=["standard_error", "verdict", "reason"]).join(measured, on=keys)
    is_basin = np.isfinite(volumes["log_mean_power"])
    joined["log_mean_power"] = joined["log_mass"].where(is_basin, -math.inf)
    kept: pd.DataFrame = joined[~is_basin | np.isfinite(joined["log_mass"])]
    return kept.drop(columns="log_mass")


def _with_doubts(claim: Claim, rows: pd.DataFrame) -> Claim:
    """The claim with how many of its comparisons are beyond doubt, and what the doubt about the others is."""
    evidence = tuple(_of_masses(found, _doubt(rows.loc[list(found.rows)])) for found in claim.evidence)
    votes = [found for found in evidence if found.holds is not None]
    if not votes:
        return replace(claim, evidence=evidence)
    clear = sum(not found.doubt for found in votes)
    reason = (
        f"{claim.reason} Beyond doubt: {clear} of {len(votes)}, where every mass is trustworthy and all "
        f"differ by more than {_CLEAR:g} standard errors."
    )
    return replace(claim, reason=reason, evidence=evidence)


def _of_masses(found: Evidence, doubt: str) -> Evidence:
    """A comparison of masses, whose sentence was made for volumes."""
    sentence = found.sentence.replace("log mean r^P", "log mass")
    if doubt and found.holds is not None:
        sentence += f" Not beyond doubt: {doubt}."
    return replace(found, sentence=sentence, doubt=doubt)


def _doubt(rows: pd.DataFrame) -> str:
    """Why masses do not settle a comparison; "" if they do, or if none of two were compared."""
    compared = basins(rows).sort_values("log_mean_power")
    if len(compared) < 2:
        return ""
    doubted = compared[compared["verdict"] != "trustworthy"]["verdict"]
    if len(doubted):
        return f"{len(doubted)} of {len(compared)} masses are called {' or '.join(sorted(set(doubted)))}"
    pairs: Iterable[tuple[float, float]] = zip(
        compared["log_mean_power"].diff().iloc[1:],
        np.hypot(compared["standard_error"].iloc[1:].to_numpy(), compared["standard_error"].iloc[:-1].to_numpy()),
        strict=True,
    )
    if any(not apart > _CLEAR * error for apart, error in pairs):
        return f"two masses differ by less than {_CLEAR:g} standard errors"
    return ""
