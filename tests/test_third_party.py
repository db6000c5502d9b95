"""Methods and backends of other packages: as objects, and by name through entry points."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import basinvol as bv
from basinvol import ground_truth
from basinvol.backends import backends
from basinvol.estimators import Outcome, Task
from basinvol.estimators.star import Options, estimate

TOY = '''
from dataclasses import dataclass

import torch
from basinvol.backends.reference import ReferenceBackend
from basinvol.estimators import find_method


@dataclass
class Halved:
    """The plain estimate from half of the directions."""

    share: float = 0.5
    name = "halved"

    def estimate(self, task):
        import dataclasses
        fewer = dataclasses.replace(task, num_directions=max(2, int(self.share * task.num_directions)))
        return find_method("star").estimate(fewer)


class Counting(ReferenceBackend):
    """The reference, by another name."""

    name = "counting"
'''


@pytest.fixture
def toy_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as pip installs it: a module, and metadata with entry points."""
    (tmp_path / "toyvol.py").write_text(TOY)
    metadata = tmp_path / "toyvol-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toyvol\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[basinvol.methods]\nhalved = toyvol:Halved\n\n[basinvol.backends]\ncounting = toyvol:Counting\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toyvol", raising=False)


def measure(**options) -> bv.VolumeEstimate:
    case = ground_truth.ball(4)
    return bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=40, scaling="none", **options)


def test_an_installed_package_registers_a_method_and_a_backend_by_name(toy_package):
    est = measure(method="halved", method_options={"share": 0.25}, backend="counting", probe=False)
    assert (est.method, est.backend, len(est.radii)) == ("halved", "counting", 10)
    assert est.log_volume == pytest.approx(ground_truth.ball(4).log_volume, abs=1e-3)
    assert "method halved" in str(est)
    assert "halved" in measure(check="halved", probe=False).diagnostics.agreement


def test_a_wrong_option_of_a_registered_method_is_refused(toy_package):
    with pytest.raises(ValueError, match=r"`method_options` do not fit method 'halved': .*'shares'"):
        measure(method="halved", method_options={"shares": 0.25})


def test_names_that_nothing_registers_are_refused_with_those_that_are(toy_package):
    with pytest.raises(ValueError, match=r"`method` must be one of 'star', .*, 'halved', got 'third'"):
        measure(method="third")
    with pytest.raises(ValueError, match=r"`backend` must be 'auto' or one of .*'counting', got 'fourth'"):
        measure(backend="fourth")


class Repeated:
    """The plain estimate, with a detail of its own."""

    name = "repeated"

    def estimate(self, task: Task) -> Outcome:
        outcome = estimate(task, Options())
        return Outcome(
            outcome.volume,
            outcome.radii,
            outcome.solver,
            outcome.uniform_directions,
            outcome.uniform_radii,
            details={"repetitions": 1},
        )


def test_a_method_and_a_backend_may_be_objects():
    reference = backends()["reference"]
    est = measure(method=Repeated(), backend=reference, probe=False)
    assert (est.method, est.backend, est.details) == ("repeated", "reference", {"repetitions": 1})
    assert est.backend_reason == "passed as an object"
    assert est.log_volume == measure(backend="reference", probe=False).log_volume
    radii = bv.find_radii(
        bv.Landscape(*ground_truth.ball(4).task()),
        bv.Directions(bv.ParameterSpace.of(ground_truth.ball(4).task()[0]), 3),
        [1.0],
        scaling="none",
        backend=reference,
    )
    torch.testing.assert_close(radii.at().radius, torch.ones(3, dtype=torch.float64), rtol=1e-4, atol=0.0)


def test_objects_that_are_neither_are_refused():
    with pytest.raises(ValueError, match=r"`method` must be a name or an object .*, got the class Repeated"):
        measure(method=Repeated)
    with pytest.raises(ValueError, match=r"`method` must be a name or an object .*, got a int"):
        measure(method=3)
    with pytest.raises(ValueError, match=r"`method_options` are for methods by name, got \['share'\]"):
        measure(method=Repeated(), method_options={"share": 1})
    with pytest.raises(ValueError, match=r"`backend` must be a name or an object with name, .*, got a object without"):
        measure(backend=object())
