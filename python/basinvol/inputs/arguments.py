"""Refusals of single arguments: each names the argument, what was expected and what came."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import SupportsFloat, SupportsIndex, cast


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Refuses a value that is not one of those allowed.

    Args:
        name: name of the argument, for the message.
        value: the value to check.
        allowed: the values that are allowed.

    Raises:
        ValueError: the value is not one of them.
    """
    choices = list(allowed)
    # Types are compared first: 1 == True, and the comparison of an array has no single truth value.
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def whole_number(name: str, value: object, least: int | None = None) -> int:
    """The value as an int; 8.0, "2" and True are refused.

    Args:
        name: name of the argument, for the message.
        value: the value to check.
        least: the smallest value allowed; None for any.

    Raises:
        ValueError: the value is not a whole number, or is too small.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(cast(SupportsIndex, value))  # NumPy integers pass, floats and strings do not
    except TypeError:
        raise ValueError(f"`{name}` must be a whole number, got {value!r} of type {type(value).__name__}.") from None
    if least is not None and number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}.")
    return number


def real_number(name: str, value: object) -> float:
    """The value as a float; lists, strings and tensors of several elements are refused.

    Raises:
        ValueError: the value is not one number. NaN counts as a number; callers decide about it.
    """
    try:
        if isinstance(value, (str, bytes, bool)):
            raise TypeError
        number = float(cast(SupportsFloat, value))  # whatever has one value: NumPy scalars and 0-d tensors too
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"`{name}` must be a number, got {value!r} of type {type(value).__name__}.") from None
    return number
