"""Blocks as jobs of submitit, with its executor for one machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from basinvol.executors import TaskFailed, open_executor, spread
from basinvol.executors.on_slurm import SlurmExecutor

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::ResourceWarning")]
cloudpickle = pytest.importorskip("cloudpickle")
pytest.importorskip("submitit")
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def plus(shared: int, item: int) -> int:
    return shared + item


def dies(shared: None, item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_jobs_give_every_result_once_and_leave_nothing_shared(tmp_path: Path) -> None:
    with SlurmExecutor("local", folder=tmp_path) as executor:
        assert sorted(spread(plus, 10, range(4), executor)) == [(number, number + 10) for number in range(4)]
        assert list(tmp_path.glob("shared-*"))
    assert not list(tmp_path.glob("shared-*"))


def test_a_job_that_dies_is_one_sentence(tmp_path: Path) -> None:
    sentence = r"^block 0 was lost: its job ended without a result, perhaps for want of memory or time; its log is in "
    with SlurmExecutor("local", folder=tmp_path) as executor, pytest.raises(TaskFailed, match=sentence):
        list(spread(dies, None, range(1), executor, lambda item: f"block {item}"))


def test_a_machine_without_slurm_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"`executor` is slurm:gpu, which cannot be used here: "):
        open_executor("slurm:gpu")
