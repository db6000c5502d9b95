"""Radii along many directions: options, a backend, a pilot, blocks of directions, and the rays that decide."""

from .find import find_radii
from .options import DEFAULTS, SearchOptions, check_cutoffs
from .solver import RaySearchFailed, RaySolver

__all__ = ["DEFAULTS", "RaySearchFailed", "RaySolver", "SearchOptions", "check_cutoffs", "find_radii"]
