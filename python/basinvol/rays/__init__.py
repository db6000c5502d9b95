"""Radii along many directions: options, a backend, a pilot, blocks of directions, and the rays that decide."""

from .options import DEFAULTS, SearchOptions
from .solver import RaySearchFailed, RaySolver, find_radii

__all__ = ["DEFAULTS", "RaySearchFailed", "RaySolver", "SearchOptions", "find_radii"]
