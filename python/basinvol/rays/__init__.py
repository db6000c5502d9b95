"""Radii along many directions: options, a backend, a pilot, blocks of directions, and the rays that decide."""

from .solver import RaySearchFailed, RaySolver, find_radii

__all__ = ["RaySearchFailed", "RaySolver", "find_radii"]
