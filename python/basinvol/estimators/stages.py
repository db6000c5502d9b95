"""The random streams of one estimate: no two stages of it share a direction or a chain's noise."""

from __future__ import annotations

import enum

# The golden ratio's digits, as SplitMix64 steps: seeds of neighboring stages have nothing in common.
_STEP = 0x9E3779B97F4A7C15
_SEEDS = 2**64
_ROUNDS_APART = 2**16  # more than there are stages, so that a round of one stage is no other stage


class Stage(enum.IntEnum):
    """The purposes for which random numbers are drawn. The values are part of what a seed means: do not change them."""

    RAYS = 0  # the directions of a plain estimate, the ones that `Directions(space, count, seed)` gives
    PILOT = 1  # to which the proposal of "preconditioned" is fitted, round by round
    UNIFORM = 20  # its final rays that stay uniform
    STRETCHED = 21  # its final rays along the proposal
    ANNEALED = 30  # chains
    WALK = 40  # walkers of "hit-and-run"
    SPLITTING = 50  # chains
    SPLITTING_PILOT = 51  # those that say how many are needed
    DIRECT = 60  # draws
    STRATA = 98  # rays at fixed angles around an axis that a probe found
    CHALLENGE = 99  # rays along the axes that a probe found


def stage_seed(seed: int, stage: Stage, round_: int = 0) -> int:
    """The seed of one round of one stage, between 0 and 2^64 - 1; `seed` itself for the rays.

    Args:
        seed: seed of the estimate.
        stage: what the random numbers are for.
        round_: number of the round, from 0 on and below 2^40.
    """
    return seed if stage is Stage.RAYS and round_ == 0 else (seed + (stage + round_ * _ROUNDS_APART) * _STEP) % _SEEDS
