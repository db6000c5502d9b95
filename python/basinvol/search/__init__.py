"""The radius search along many rays, which knows nothing of models."""

from .ray_search import RUNNING, SEARCHES, Queries, RaySearch, SearchSettings

__all__ = ["RUNNING", "SEARCHES", "Queries", "RaySearch", "SearchSettings"]
