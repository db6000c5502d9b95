"""The generator in torch and in C++ against the published one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from basinvol import _native
from basinvol.model.philox import philox_normals, philox_words

MASK = 2**32 - 1
# Where halves of the key and words of the counter end.
SEEDS = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [0, 1, 2**31, 2**32 - 1]


def philox4x32_10(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Salmon et al. 2011 in unbounded integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MASK,) * 4, (MASK,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_definition_gives_the_known_answers_of_random123(counter, key, words):
    assert philox4x32_10(counter, key) == words


def test_both_implementations_give_the_known_answer_of_random123():
    known = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox_words(0, 0, 0, 1)[0].tolist() == known
    assert _native.philox_words(0, 0, 0, 1)[0].tolist() == known


@given(
    seed=st.sampled_from(SEEDS) | st.integers(0, 2**64 - 1),
    direction=st.sampled_from(WORDS) | st.integers(0, MASK),
    tensor=st.sampled_from(WORDS) | st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_words_are_the_published_ones_bit_for_bit(seed, direction, tensor):
    expected = [philox4x32_10((block, direction, tensor, 0), (seed & MASK, seed >> 32)) for block in range(5)]
    assert [tuple(row) for row in philox_words(seed, direction, tensor, 5).tolist()] == expected
    assert [tuple(row) for row in _native.philox_words(seed, direction, tensor, 5).tolist()] == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_normals_are_box_muller_of_the_words(seed):
    count = 20_001
    words = philox_words(seed, 3, 2, -(-count // 4)).numpy().astype(np.float64).reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log((words[:, 0] + 0.5) * 2.0**-32))
    angle = words[:, 1] * (2.0 * math.pi * 2.0**-32)
    exact = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]
    in_torch, in_cpp = philox_normals(seed, 3, 2, count).numpy(), _native.philox_normals(seed, 3, 2, count)
    assert in_torch.dtype == in_cpp.dtype == np.float32
    assert np.abs(in_torch - in_cpp).max() <= 1e-6
    # In float32 the angle is good to 2^-19 radians, and u to 2^-22, which moves the radius by 2^-22 over itself.
    length = np.repeat(radius, 2)[:count]
    assert (np.abs(in_cpp - exact) <= 2.0**-19 * length + 2.0**-22 / length).all()


@pytest.mark.parametrize("generate", [philox_normals, _native.philox_normals], ids=["torch", "cpp"])
def test_element_does_not_depend_on_how_many_are_drawn(generate):
    longest = np.asarray(generate(11, 5, 1, 1001))
    for count in (0, 1, 2, 3, 4, 5, 127, 128, 129, 1000):
        assert np.array_equal(np.asarray(generate(11, 5, 1, count)), longest[:count])


def test_normals_are_standard_normal():
    count = 200_000
    z = philox_normals(1, 0, 0, count).double().numpy()
    assert abs(z.mean()) <= 5 / math.sqrt(count)
    assert abs(np.mean(z**2) - 1) <= 5 * math.sqrt(2 / count)
    assert abs(np.mean(z**3)) <= 5 * math.sqrt(15 / count)
    assert abs(np.mean(z**4) - 3) <= 5 * math.sqrt(96 / count)
    assert stats.kstest(z, "norm").pvalue > 1e-6
    assert np.abs(z).max() <= 6.8


@pytest.mark.parametrize(
    ("first", "second"),
    [((1, 0, 0), (2, 0, 0)), ((1, 0, 0), (2**32 + 1, 0, 0)), ((1, 0, 0), (1, 1, 0)), ((1, 0, 1), (1, 1, 0))],
    ids=["seed", "high half of the seed", "direction", "tensor and direction"],
)
def test_streams_are_uncorrelated(first, second):
    count = 100_000
    a, b = philox_normals(*first, count).double(), philox_normals(*second, count).double()
    assert abs(float((a * b).mean())) <= 5 / math.sqrt(count)
    assert abs(float((a[1:] * a[:-1]).mean())) <= 5 / math.sqrt(count), "neighbours share a Box-Muller pair"
    assert not torch.equal(a[:4], b[:4])
