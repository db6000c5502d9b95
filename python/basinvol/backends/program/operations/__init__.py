"""How operations of torch are lowered: each file registers the rules of one kind."""

from . import attention, elementwise, embedding, losses, normalization, pooling, products, shapes
from .registry import RULES, VIEWS, Call

__all__ = [
    "RULES",
    "VIEWS",
    "Call",
    "attention",
    "elementwise",
    "embedding",
    "losses",
    "normalization",
    "pooling",
    "products",
    "shapes",
]
