"""The seam: calls on any executor, each counted once, few at a time, and errors under the name of their block."""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from basinvol.executors import Placed, TaskFailed, num_workers, open_executor, opened, spread
from basinvol.executors import payload as payloads
from basinvol.executors.local import LocalExecutor


class Waiting(Executor):
    """Holds calls until they are asked for, so that tests decide what happens when."""

    num_workers = 2

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.most = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append((future, lambda: fn(*args, **kwargs)))
        self.most = max(self.most, sum(not future.done() for future, _ in self.calls))
        return future

    def finish(self, number: int) -> None:
        future, call = self.calls[number]
        if future.set_running_or_notify_cancel():
            future.set_result(call())


class Direct(Executor):
    """Calls at once, in the thread that submits."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def plus(shared: int, item: int) -> int:
    return shared + item


def identity_of_shared(shared: list[int], item: int) -> int:
    return id(shared)


def fails(shared: type[Exception], item: int) -> int:
    if item == 3:
        raise shared("no good")
    return item


def no_space(shared: None, item: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def exhausts(shared: Path, item: int) -> int:
    """Runs out of memory on the first of several tries."""
    tries = shared / f"{item}"
    tries.touch()
    with tries.open("a") as file:
        file.write(".")
    if len(tries.read_text()) < 3:
        raise MemoryError
    return item


def never_enough(shared: None, item: int) -> int:
    raise MemoryError


@pytest.mark.parametrize("make", [Direct, lambda: ThreadPoolExecutor(3)])
def test_every_item_comes_back_once(make: Callable[[], Executor]) -> None:
    found = dict(spread(plus, 10, range(100), make()))
    assert found == {number: number + 10 for number in range(100)}


def test_no_item_is_no_result() -> None:
    assert not list(spread(plus, 10, [], Direct()))


def test_items_are_taken_as_workers_need_them() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    executor = Waiting()
    results = spread(plus, 0, items(), executor)
    threading.Timer(0.05, executor.finish, [5]).start()
    assert next(results) == (5, 5)
    assert taken == executor.most == 8  # four for each of two workers
    threading.Timer(0.05, executor.finish, [0]).start()
    assert next(results) == (0, 0)
    assert taken == 9
    results.close()
    assert all(future.done() for future, _ in executor.calls)  # what had not begun is cancelled


def test_results_may_lead_to_new_items() -> None:
    class Plan:
        def __init__(self) -> None:
            self.ready = [1]

        def __iter__(self) -> Plan:
            return self

        def __next__(self) -> int:
            if not self.ready:
                raise StopIteration
            return self.ready.pop()

    plan, seen = Plan(), []
    for number, result in spread(plus, 0, plan, Direct()):
        seen.append((number, result))
        if result < 4:
            plan.ready.append(result + 1)
    assert seen == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_a_worker_loads_what_is_shared_once() -> None:
    with ThreadPoolExecutor(1) as executor:
        placed = Placed([1, 2], executor, "a list")
        first = dict(spread(identity_of_shared, placed, range(10), executor))
        again = dict(spread(identity_of_shared, placed, range(10), executor))
        assert len({*first.values(), *again.values()}) == 1


@pytest.mark.parametrize(
    ("error", "raised", "sentence"),
    [
        (ValueError, ValueError, r"^block 3: no good$"),
        (KeyError, TaskFailed, r"^block 3 failed on \S+: KeyError: 'no good'$"),
    ],
)
def test_an_error_names_the_block_and_others_are_kept(
    error: type[Exception], raised: type[Exception], sentence: str
) -> None:
    kept: list[int] = []
    with ThreadPoolExecutor(1) as executor:
        results = spread(fails, error, range(4), executor, lambda item: f"block {item}")
        with pytest.raises(raised, match=sentence):
            kept.extend(number for number, _ in results)
    assert kept == [0, 1, 2]


def test_a_full_disk_on_a_worker_is_a_full_disk_here() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        list(spread(no_space, None, [0], Direct()))
    assert caught.value.errno == errno.ENOSPC
    assert "test_spread.py" in str(caught.value.__cause__)  # where on the worker it came from


def test_a_call_that_runs_out_of_memory_is_tried_again(tmp_path: Path) -> None:
    assert dict(spread(exhausts, tmp_path, range(2), Direct())) == {0: 0, 1: 1}
    with pytest.raises(TaskFailed, match=r"^block 7 ran out of memory on \S+, 3 times; give each call more"):
        list(spread(never_enough, None, [7], Direct(), lambda item: f"block {item}"))


def test_a_straggler_goes_to_a_second_worker_and_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basinvol.executors.calls._LEAST_SECONDS", 0.05)
    executor = Waiting()
    executor.reissues = True  # type: ignore[attr-defined]
    results = spread(plus, 0, range(5), executor)

    def work() -> None:
        for number in range(4):
            executor.finish(number)
        deadline = time.monotonic() + 20
        while len(executor.calls) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        executor.finish(5)  # the second worker of item 4
        executor.finish(4)

    thread = threading.Thread(target=work)
    threading.Timer(0.1, thread.start).start()
    assert sorted(results) == [(number, number) for number in range(5)]
    assert len(executor.calls) == 6


def test_short_items_are_bundled_and_each_comes_back_once() -> None:
    class Bundling(Direct):
        bundles = True
        calls = 0

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.calls += 1
            return super().submit(fn, *args, **kwargs)

    executor = Bundling()
    assert dict(spread(plus, 10, range(1000), executor)) == {number: number + 10 for number in range(1000)}
    assert executor.calls < 200
    kept: list[int] = []
    results = spread(fails, KeyError, itertools.chain([0] * 100, [1, 3, 2]), Bundling(), lambda item: f"block {item}")
    with pytest.raises(TaskFailed, match=r"^block 3 failed on"):
        kept.extend(number for number, _ in results)
    assert kept == list(range(101))  # the results of the bundle before its error are kept


def test_a_broken_executor_is_one_sentence() -> None:
    class Broken(Direct):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            raise BrokenExecutor("the pool is gone")

    with pytest.raises(TaskFailed, match=r"^block 0 was lost: BrokenExecutor: the pool is gone\.$"):
        list(spread(plus, 0, range(3), Broken(), lambda item: f"block {item}"))


def test_a_worker_with_other_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    call = payloads.Call("block 0", {**payloads.versions(), "torch": "1.0"}, payloads.Carried("k", b""), b"")
    reply = payloads.perform(call)
    assert reply.kind == "WorkerDiffers"
    assert reply.message.endswith("and not 1.0; install the same versions on all machines.")
    other = {**payloads.versions(), "Python": "3.9"}
    monkeypatch.setattr("basinvol.executors.calls.versions", lambda: other)
    with pytest.raises(ValueError, match=r"block 0: the worker on \S+ has Python 3\.\d+ and not 3\.9; install"):
        list(spread(plus, 0, [0], Direct(), lambda item: f"block {item}"))


def test_what_cannot_be_pickled_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^the model cannot be sent to workers, because it cannot be pickled: "):
        list(spread(plus, Placed(threading.Lock(), Direct(), "the model"), [0], Direct()))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("local", "`executor` must say how many processes, such as local:2, got 'local'."),
        ("local:0", "`executor local:N` must be at least 1, got 0."),
        ("slurm:", "`executor` must name the partition, such as slurm:gpu, got 'slurm:'."),
        ("everywhere", "`executor` must be local:N, ray, ray:ADDRESS, slurm:PARTITION or module:make_executor, got"),
        ("no_such_module:make", "the executor's module 'no_such_module' cannot be imported"),
        ("math:make", "the executor's module 'math' has no function 'make'."),
        ("os:getcwd", "os:getcwd must return a concurrent.futures.Executor, got a str."),
    ],
)
def test_bad_words_are_one_sentence(words: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        open_executor(words)
    assert str(caught.value).startswith(sentence)


def test_only_executors_and_words_are_opened() -> None:
    with pytest.raises(ValueError, match=r"`executor` must be a concurrent.futures.Executor, or one of .*got a int"):
        opened(3).__enter__()  # type: ignore[arg-type]
    with opened(None) as none:
        assert none is None
    with ThreadPoolExecutor(3) as mine:
        with opened(mine) as same:
            assert same is mine
        assert num_workers(mine) == 3
        assert mine.submit(int).result() == 0  # it is still open


def test_local_processes_share_by_a_file_and_leave_nothing() -> None:
    with open_executor("local:1") as executor:
        assert isinstance(executor, LocalExecutor)
        shared = executor.share(b"content")
        assert shared.load() == b"content"
        folder = Path(executor._folder.name)
        assert folder.is_dir()
    assert not folder.exists()
