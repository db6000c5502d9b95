"""What Ray's adapter says where there is no cluster, before any is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from basinvol.cli import main
from basinvol.executors import open_executor

pytestmark = pytest.mark.cluster
ray = pytest.importorskip("ray")


def test_no_cluster_at_an_address_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert not ray.is_initialized()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        ValueError, match=rf"`executor` is ray, and the cluster at {address} cannot be joined: .*refused"
    ):
        open_executor(f"ray:{address}")
    out = ["--out", str(tmp_path / "run")]
    assert main(["reproduce", "swiss-roll", "--preset", "smoke", "--executor", f"ray:{address}", *out]) == 2
    said = capsys.readouterr().err
    assert said.startswith("basinvol: `executor` is ray")
    assert said.count("\n") == 1
