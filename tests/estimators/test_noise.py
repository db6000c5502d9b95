"""The normal numbers of chains."""

from __future__ import annotations

import pytest
import torch

from basinvol import _native
from basinvol.estimators.noise import Noise, empty


def drawn(count: int, dim: int, seed: int = 0, **options) -> torch.Tensor:
    noise = Noise(torch.Generator().manual_seed(seed))
    return noise.fill(torch.zeros(count, dim, dtype=torch.float64), **options)


def test_every_row_is_a_direction_of_the_stream_that_the_generator_names() -> None:
    generator = torch.Generator().manual_seed(3)
    found = Noise(generator).fill(empty(3, 5000), deviation=0.5)
    seed = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(3)))
    parts = [torch.from_numpy(_native.philox_normals(seed, 2, part, count)) for part, count in ((0, 4096), (1, 904))]
    assert torch.equal(found[2], 0.5 * torch.cat(parts).double())
    later = Noise(generator).fill(empty(3, 5000), deviation=0.5)
    assert not (found == later).any()


@pytest.mark.parametrize("dim", [1, 7, 4096, 4097, 10_000])
def test_threads_do_not_change_them(dim: int) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = drawn(5, dim)
        torch.set_num_threads(3)
        assert torch.equal(drawn(5, dim), alone)
    finally:
        torch.set_num_threads(threads)


def test_only_the_rows_that_are_asked_for_are_written() -> None:
    rows = torch.tensor([4, 1])
    found = drawn(6, 10, rows=rows)
    assert torch.equal(found[rows], drawn(2, 10))
    assert (found[[0, 2, 3, 5]] == 0).all()


def test_a_chain_has_its_numbers_whoever_else_is_there() -> None:
    assert torch.equal(drawn(2, 10, first=3), drawn(5, 10)[3:])


def test_they_are_standard_normal_and_independent() -> None:
    found = drawn(2000, 100)
    assert abs(float(found.mean())) < 5 / 200_000**0.5
    assert abs(float(found.var()) - 1.0) < 5 * (2 / 200_000) ** 0.5
    assert abs(float(found.pow(4).mean()) - 3.0) < 5 * (96 / 200_000) ** 0.5
    correlations = torch.corrcoef(found.T) - torch.eye(100, dtype=torch.float64)
    assert float(correlations.abs().max()) < 5 / 2000**0.5


def test_rows_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="`rows` has one that is not there"):
        drawn(2, 3, rows=torch.tensor([2]))
