"""Blocks on a real Ray cluster: machines and workers are killed, run out of memory or are slow, and nothing is lost."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import basinvol as bv
from basinvol.executors import TaskFailed, open_executor, spread
from basinvol.experiments.describe.families import describe
from basinvol.experiments.run.sweep import Sweep

pytestmark = [
    pytest.mark.cluster,
    # Ray's own threads and sockets are its own affair.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
cloudpickle = pytest.importorskip("cloudpickle")
ray = pytest.importorskip("ray")
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def noted(folder: Path, item: int, seconds: float = 0.3) -> int:
    """Notes that it begins, works, and notes that it ends."""
    mine = Path(folder) / f"{os.getpid()}-{ray.get_runtime_context().get_node_id()}"
    with mine.open("a") as file:
        file.write(f"{item} begins\n")
    time.sleep(seconds)
    with mine.open("a") as file:
        file.write(f"{item} ends\n")
    return 10 * item


def never_ends_on(shared: tuple[str, Path], item: int) -> int:
    """The same, and what begins on one machine is still at work when that machine is lost."""
    node, folder = shared
    return noted(folder, item, 600.0 if ray.get_runtime_context().get_node_id() == node else 0.3)


def plus(shared: int, item: int) -> int:
    return shared + item


def kills_itself_once(folder: Path, item: int) -> int:
    mark = Path(folder) / str(item)
    if item % 4 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def takes_too_much(folder: Path, item: int) -> int:
    """Item 2 runs out of memory, once the results of the three others have arrived."""
    if item == 2:
        while len(list(folder.glob("*"))) < 3:
            time.sleep(0.01)
        before = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, before[1]))
        try:
            return len(bytearray(2**32))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    return item


def keep(results: Iterator[tuple[int, int]], folder: Path) -> None:
    """Marks every result that arrives."""
    for number, _ in results:
        (folder / str(number)).touch()


def slow_on(shared: tuple[str, Path], item: int) -> int:
    """Takes a minute on one machine, and no time on others."""
    node, folder = shared
    is_slow = ray.get_runtime_context().get_node_id() == node
    (Path(folder) / f"{item}-{'slow' if is_slow else 'fast'}").touch()
    time.sleep(60 if is_slow else 0.05)
    return item


def a_network() -> tuple[nn.Module, Any, tuple[Tensor, Tensor]]:
    """A perceptron with a loss that only cloudpickle can send."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=generator)
    y = (x[:, 0] > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    return model, lambda outputs, targets: nn.functional.cross_entropy(outputs, targets), (x, y)


def test_radii_have_the_bytes_of_a_local_run(machines: Any, executor: Any) -> None:
    assert executor.num_workers == 3
    model, loss_fn, data = a_network()
    landscape = bv.Landscape(model, loss_fn, data)
    directions = bv.Directions(bv.ParameterSpace.of(model), 80)
    for resolve in ("all", "decisive"):
        here = bv.find_radii(landscape, directions, [0.9, 1.2], resolve=resolve, num_threads=1)
        there = bv.find_radii(landscape, directions, [0.9, 1.2], resolve=resolve, executor=executor)
        for name in ("lower", "upper", "radius", "value_lower", "value_upper", "status_code", "num_evaluations"):
            torch.testing.assert_close(getattr(here, name), getattr(there, name), rtol=0, atol=0, equal_nan=True)


def test_the_block_of_a_killed_worker_is_done_again(executor: Any, tmp_path: Path) -> None:
    found = list(spread(kills_itself_once, tmp_path, range(12), executor))
    assert sorted(found) == [(number, number) for number in range(12)]  # nothing lost, nothing counted twice
    assert len(list(tmp_path.glob("*"))) == 3  # three of them did die


def test_a_block_that_runs_out_of_memory_is_named_and_others_are_kept(executor: Any, tmp_path: Path) -> None:
    results = spread(takes_too_much, tmp_path, range(4), executor, lambda item: f"block {item}")
    with pytest.raises(TaskFailed, match=r"^block 2 ran out of memory on \S+, 3 times; give each call more, or run"):
        keep(results, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*")) == ["0", "1", "3"]


def test_the_blocks_of_a_slow_machine_are_done_by_others(machines: Any, executor: Any, tmp_path: Path) -> None:
    node = machines.nodes[0].node_id
    started = time.monotonic()
    found = list(spread(slow_on, (node, tmp_path), range(30), executor))
    assert sorted(found) == [(number, number) for number in range(30)]
    names = {path.name for path in tmp_path.glob("*")}
    stragglers = {name.split("-")[0] for name in names if name.endswith("slow")}
    assert stragglers  # the slow machine had its share
    assert all(f"{number}-fast" in names for number in stragglers)  # which others did again
    assert time.monotonic() - started < 55  # and nobody waited for it


def test_ten_thousand_blocks_leave_the_drivers_memory_flat(executor: Any) -> None:
    most = 0
    list(spread(plus, 0, range(500), executor))  # workers are up
    before = memory()
    started = time.monotonic()
    for count, (number, result) in enumerate(spread(plus, 7, range(10_000), executor), 1):
        assert result == number + 7
        if count % 500 == 0:
            most = max(most, memory())
    rate = 10_000 / (time.monotonic() - started)
    print(f"{rate:,.0f} blocks a second, {(most - before) / 2**20:.1f} MB more in the driver")  # noqa: T201
    assert count == 10_000
    assert most - before < 64 * 2**20


def test_the_blocks_of_a_killed_machine_are_done_again(machines: Any, executor: Any, tmp_path: Path) -> None:
    doomed = machines.nodes[-1]
    results = spread(never_ends_on, (doomed.node_id, tmp_path), range(24), executor)
    found = [next(results)]
    wait_until(lambda: bool(list(tmp_path.glob(f"*-{doomed.node_id}"))), "the machine does not work")
    begun = lines(tmp_path)
    machines.kill(doomed)
    found.extend(results)
    assert sorted(found) == [(number, 10 * number) for number in range(24)]
    assert len(begun) < 48  # it was killed in the middle
    twice = [line for line in lines(tmp_path) if line.endswith("begins")]
    assert len(twice) > len(set(twice))  # what it had begun was begun again
    machines.add()  # for other tests


def wait_until(is_so: Callable[[], bool], otherwise: str, seconds: float = 300.0) -> None:
    """Waits, at most so long.

    Args:
        is_so: what is waited for.
        otherwise: what is said if it does not come.
        seconds: how long.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def lines(folder: Path) -> list[str]:
    """What calls have noted in the files of a folder."""
    return [line for path in folder.glob("*") for line in path.read_text().splitlines()]


def memory() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# A shell without job control starts what runs in the background with SIGINT ignored, and its children inherit that.
RUN = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from basinvol.cli import main
sys.exit(main(sys.argv[1:]))
"""
# Nine trainings, so that most of them remain when the first one is done; two checkpoints of each, in two blocks.
SMOKE = dataclasses.replace(describe("grokking", "smoke"), seeds=(0, 1, 2), levels=(0, 92, 282), num_directions=52)
GROKKING = ["reproduce", "grokking", "--preset", "smoke", "--seeds", "0,1,2", "--levels", "0,92,282"]
GROKKING += ["--directions", "52"]
INTERRUPTED = "basinvol: interrupted; finished models and blocks of directions are kept; repeat the same command to "
INTERRUPTED += "continue.\n"


def test_a_run_goes_on_after_ctrl_c_and_after_a_kill_and_ends_with_the_same_bytes(
    machines: Any, contents: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    out = tmp_path / "there"
    arguments = [sys.executable, "-c", RUN, *GROKKING, "--executor", f"ray:{machines.address}", "--out", str(out)]

    def models() -> int:
        return len(list(out.glob("models/*.safetensors")))

    driver = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: models() >= 1, "no model")
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=300)
    assert (driver.returncode, said) == (130, INTERRUPTED)
    assert not (out / ".lock").exists()

    begun = models()
    driver = subprocess.Popen(arguments)
    wait_until(lambda: models() > begun, "no more models")
    driver.kill()
    driver.wait()
    assert (out / ".lock").exists()  # of a holder who is gone
    assert not (out / "volumes.csv").exists()

    assert subprocess.run(arguments, check=False).returncode == 0
    Sweep(SMOKE, tmp_path / "here").run()
    assert contents(out) == contents(tmp_path / "here")


def test_another_cluster_than_the_one_that_is_connected_is_refused(executor: Any) -> None:
    with pytest.raises(ValueError, match=r"ray:elsewhere:1, and this process is connected to the cluster at .*; call"):
        open_executor("ray:elsewhere:1")


def test_a_cluster_too_small_for_a_task_is_one_sentence(machines: Any) -> None:
    with pytest.raises(ValueError, match=r"no machine of the Ray cluster has 2 CPU for one task; lower `num_threads`"):
        open_executor(f"ray:{machines.address}", num_threads=2)
    with pytest.raises(ValueError, match=r"no machine of the Ray cluster has 1 CPU and 1 GPU for one task"):
        open_executor(f"ray:{machines.address}", num_gpus=1)


def test_closing_an_iteration_cancels_what_runs(executor: Any, tmp_path: Path) -> None:
    results = spread(noted, tmp_path, range(100), executor)
    next(results)
    results.close()
    time.sleep(1.0)
    begun = len(lines(tmp_path))
    time.sleep(1.5)
    assert len(lines(tmp_path)) == begun < 100
