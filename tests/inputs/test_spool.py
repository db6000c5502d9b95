"""Data larger than memory: batches go to temporary files, and nobody sees a difference but the free memory."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset, TensorDataset

import basinvol as bv
from basinvol.inputs import arrays, chunks, spool
from basinvol.inputs.data import read_data
from basinvol.inputs.fields import Fields, Inputs
from basinvol.inputs.memory import available_memory, physical_memory

FEW = 40  # bytes that data may take in memory


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder, while data may take a few bytes of memory and are read a few rows at a time."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limit(monkeypatch, FEW)
    monkeypatch.setattr(chunks, "_BYTES", 64)
    return tmp_path


def limit(patch: pytest.MonkeyPatch, num_bytes: int) -> None:
    for module in (spool, arrays):
        patch.setattr(module, "memory_limit", lambda: num_bytes)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The temporary files that were opened."""
    opened: list[Any] = []
    original = tempfile.TemporaryFile

    def opening(*args: Any, **options: Any) -> Any:
        opened.append(original(*args, **options))
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", opening)
    return opened


def is_empty(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.is_file()]  # torch makes empty folders there


def tensors_of(values: Inputs) -> dict[str, Tensor]:
    return dict(values.values) if isinstance(values, Fields) else {"": values}


def assert_same(found: tuple[Inputs, Inputs], expected: tuple[Inputs, Inputs]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert type(ours) is type(theirs)
        ours, theirs = tensors_of(ours), tensors_of(theirs)
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            assert values.dtype == theirs[name].dtype
            assert torch.equal(values, theirs[name])


class Rows(Dataset):
    def __init__(self, *columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(column[index] for column in self.columns)


def fields(count: int) -> dict[str, Tensor]:
    return {
        "flags": torch.rand(count, 3) > 0.5,
        "ids": torch.randint(9, (count, 2, 2)),
        "halves": torch.randn(count, 5).bfloat16(),
        "numbers": torch.randn(count, dtype=torch.complex64),
        "nothing": torch.empty(count, 0),
    }


def forms() -> dict[str, Any]:
    inputs, targets = torch.randn(23, 4), torch.arange(23) % 3
    named = fields(23)
    pieces = [slice(0, 1), slice(1, 9), slice(9, 9), slice(9, 23)]
    return {
        "a Dataset": Rows(inputs, targets),
        "a DataLoader": DataLoader(TensorDataset(inputs, targets), batch_size=5),
        "batches of different sizes": [(inputs[rows], targets[rows]) for rows in pieces],
        "dictionaries": [{name: part[rows] for name, part in named.items()} for rows in pieces],
        "several inputs": [((inputs[rows], named["flags"][rows]), targets[rows]) for rows in pieces],
        "NumPy's types": [(inputs[rows].double().numpy(), targets[rows].int().numpy()) for rows in pieces],
        "types that widen": [
            (targets[:4, None], targets[:4]),
            (inputs[:5, :1], targets[:5]),
            (inputs[5:9, :1], targets[5:9]),
        ],
        "views": [(inputs[rows].t().contiguous().t(), targets[rows]) for rows in pieces],
        "conjugates": [(named["numbers"][rows].conj(), targets[rows]) for rows in pieces],
        "one pass": None,
    }


@pytest.mark.parametrize("form", forms())
@pytest.mark.parametrize("num_bytes", [0, FEW, 100])
def test_files_give_the_tensors_that_memory_gives(
    form: str, num_bytes: int, folder: Path, files: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    data = forms()[form]

    def read() -> tuple[Inputs, Inputs]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_data(iter(forms_of_one_pass) if data is None else data)

    forms_of_one_pass = forms()["batches of different sizes"]
    limit(monkeypatch, 2**30)
    expected = read()
    assert not files
    limit(monkeypatch, num_bytes)
    found = read()
    assert files
    assert all(file.closed for file in files)
    assert_same(found, expected)
    assert is_empty(folder)


def test_what_is_mapped_can_be_changed_and_no_file_is(folder: Path) -> None:
    """A forward in place must not end the process; the page that it writes is its own."""
    data = [(torch.randn(8, 4), torch.arange(8))]
    inputs, _ = read_data(data)
    assert isinstance(inputs, Tensor)
    inputs[0] = 7.0
    assert torch.equal(inputs[1:], data[0][0][1:])
    assert is_empty(folder)


def test_the_largest_tensor_goes_to_a_file_and_labels_stay(folder: Path, files: list[Any]) -> None:
    read_data(Rows(torch.randn(10, 4), torch.ones(10, dtype=torch.uint8)))
    assert len(files) == 1


def test_shuffling_and_augmentation_are_refused_as_in_memory(folder: Path, files: list[Any]) -> None:
    inputs, targets = torch.randn(20, 4), torch.arange(20)
    message = "`data` gives other values on a second pass, by shuffling or augmentation"

    class Augmented(Rows):
        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            return super().__getitem__(index)[0] + torch.rand(4), torch.tensor(index)

    class Longer:
        count = 0

        def __iter__(self) -> Iterator[Any]:
            self.count += 1
            return iter([(inputs, targets)] * self.count)

    for data in (
        DataLoader(TensorDataset(inputs, targets), batch_size=7, shuffle=True),
        Augmented(inputs),
        Longer(),
    ):
        with pytest.raises(ValueError, match=message):
            read_data(data)
    assert len(files) >= 3
    assert all(file.closed for file in files)
    assert is_empty(folder)


@pytest.mark.parametrize("num_bytes", [0, 2**30])
def test_ragged_batches_are_refused_in_the_same_sentence(
    num_bytes: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, num_bytes)
    batches = [
        (torch.zeros(2, 3), torch.zeros(2)),
        (torch.zeros(1, 3), torch.zeros(1)),
        (torch.zeros(2, 4), torch.zeros(2)),
    ]
    message = (
        r"^the batches of `data` cannot be joined: Sizes of tensors must match except in dimension 0. Expected size 3 "
        r"but got size 4 for tensor number 2 in the list\.$"
    )
    with pytest.raises(ValueError, match=message):
        read_data(batches)
    named = [{"a": torch.zeros(2, 3)}, {"a": torch.zeros(2, 3, 1)}]
    with pytest.raises(ValueError, match=r"number of dimensions.*; pad all examples to one length\.$"):
        read_data(named)
    with pytest.raises(ValueError, match="cannot be joined"):
        read_data([(torch.zeros(()), torch.zeros(()))])
    assert is_empty(folder)


def test_nan_is_refused_by_its_example(folder: Path) -> None:
    inputs = torch.randn(60, 3)
    inputs[17, 1] = inputs[41, 0] = torch.nan
    for data in (Rows(inputs, inputs[:, 0]), (inputs, torch.zeros(60))):
        with pytest.raises(ValueError, match=r"the inputs in `data` hold NaN .* in 2 of 60 examples, .* example 17;"):
            read_data(data)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    folder: Path, files: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, count = spool._write, 0

    def full(file: Any, rows: Tensor) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, rows)

    monkeypatch.setattr(spool, "_write", full)
    data = [(torch.randn(8, 4), torch.arange(8))] * 4
    with pytest.raises(ValueError, match=r"No space left on device.* GiB so far; set .* TMPDIR to a folder") as caught:
        bv.Landscape(nn.Linear(4, 8), F.cross_entropy, data)
    assert repr(str(folder)) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files
    assert all(file.closed for file in files)
    assert is_empty(folder)


def test_a_folder_that_cannot_be_written_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = folder / "missing"
    monkeypatch.setattr(tempfile, "tempdir", str(missing))
    with pytest.raises(ValueError, match=r"No such file or directory\) after .* TMPDIR") as caught:
        read_data([(torch.randn(8, 4), torch.arange(8))])
    assert repr(str(missing)) in str(caught.value)


def test_an_interrupt_leaves_nothing(folder: Path, files: list[Any]) -> None:
    def interrupted() -> Iterator[Any]:
        yield torch.randn(8, 4), torch.arange(8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_data(interrupted())
    assert files
    assert all(file.closed for file in files)
    assert is_empty(folder)


def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    size = 2 * physical_memory()
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        try:
            file.truncate(size)
        except OSError:
            pytest.skip("the file system has no files with holes of this size")
        raw = torch.frombuffer(spool.mapped(file), dtype=torch.uint8)
    assert len(raw) == size
    assert int(raw[-1]) == 0


def test_the_limit_is_a_share_of_this_machines_memory() -> None:
    assert 0 < spool.memory_limit() < available_memory() <= physical_memory()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process takes is read from /proc")
def test_memory_stays_bounded_while_reading(tmp_path: Path) -> None:
    """300 MB in two passes under a limit of 20 MB, measured by the system."""
    program = """
    import re, resource, torch
    from torch.utils.data import Dataset
    from basinvol.inputs import spool
    from basinvol.inputs.data import _read_batches, read_data

    def anonymous():
        return int(re.search(r"RssAnon:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) / 1000

    class Images(Dataset):
        def __init__(self, count):
            self.count = count
        def __len__(self):
            return self.count
        def __getitem__(self, index):
            seen.append(anonymous() if index % 50 == 0 else 0)
            return torch.full((6_250,), float(index)), index

    seen = []
    read_data(Images(20))  # what torch loads for the first time is not the data's
    spool.memory_limit = lambda: 20_000_000
    before, at_most = anonymous(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    seen.clear()
    inputs, _ = _read_batches(Images(12_000))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - at_most)
    assert inputs.nbytes == 300_000_000 and inputs[11_999, 7] == 11_999.0
    del inputs
    inputs, _ = read_data(Images(12_000))
    print(max(*seen, anonymous()) - before)
    """
    environment = {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    largest, growth = map(float, done.stdout.split())
    assert largest < 150.0
    assert growth < 150.0
    assert is_empty(tmp_path)


class Largest(TorchDispatchMode):
    """Sees the largest tensor that an operation makes; a view is none."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes, self.known = 0, set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.untyped_storage().data_ptr() not in given:
            self.num_bytes = max(self.num_bytes, out.untyped_storage().nbytes())
        return out


def test_arrays_that_are_mapped_for_reading_are_taken_without_a_copy_or_a_warning(tmp_path: Path) -> None:
    """The model writes into its inputs, which would end the process if these were what is mapped."""
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    np.save(tmp_path / "targets.npy", np.arange(20) % 3)
    data = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("inputs", "targets"))
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))
    once = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        found = bv.Landscape(model, F.cross_entropy, data)
    finally:
        torch.set_warn_always(once)
    for ours, theirs in zip(found.tensors, data, strict=True):
        assert ours.data_ptr() == theirs.ctypes.data


@pytest.mark.parametrize("dtype", ["float64", "int32", "float32 by columns"])
def test_arrays_larger_than_the_limit_are_converted_by_chunks(
    dtype: str, folder: Path, files: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    numbers = np.random.default_rng(0).normal(size=(3_000, 4)) * 100
    numbers = np.asfortranarray(numbers.astype(np.float32)) if " " in dtype else numbers.astype(dtype)
    path = tmp_path_factory.mktemp("arrays") / "numbers.npy"
    np.save(path, numbers)
    with Largest() as largest:
        found, _ = read_data((np.load(path, mmap_mode="r"), np.zeros(3_000, dtype=np.float32)))
    wanted = torch.int64 if dtype == "int32" else torch.float32
    assert isinstance(found, Tensor)
    assert torch.equal(found, torch.from_numpy(np.ascontiguousarray(numbers)).to(wanted))
    assert largest.num_bytes < 1000
    assert len(files) == 1
    assert is_empty(folder)


def test_data_that_are_looked_at_take_no_memory_of_their_size(folder: Path) -> None:
    data = torch.ones(2_000, 8), torch.ones(2_000, 8)
    with Largest() as largest:
        read_data(data)
    assert largest.num_bytes < 1000


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))


@pytest.mark.parametrize(
    ("backend", "loss_fn"),
    [("torch", F.cross_entropy), ("torch", WEIGHTED), ("reference", F.cross_entropy), ("native", F.cross_entropy)],
)
def test_radii_on_files_are_those_on_tensors(backend: str, loss_fn: Any, folder: Path, files: list[Any]) -> None:
    data = torch.randn(90, 4), torch.arange(90) % 3
    model = Network()
    found, expected = (
        bv.estimate_volume(model, loss_fn, given, 2.0, 4, backend=backend, batch_size=16, probe=False)
        for given in (DataLoader(TensorDataset(*data), batch_size=7), data)
    )
    assert files
    assert torch.equal(found.radii.radius, expected.radii.radius)
    assert torch.equal(found.radii.value_upper, expected.radii.value_upper)
    assert found.log_volume == expected.log_volume


@pytest.mark.parametrize("backend", ["native", "cuda", "triton"])
def test_engines_that_copy_data_refuse_more_than_half_of_memory(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = torch.randn(90, 4), torch.arange(90) % 3
    landscape = bv.Landscape(Network(), F.cross_entropy, data)
    assert landscape.num_bytes == 90 * (16 + 8)
    monkeypatch.setattr("basinvol.backends.in_memory.physical_memory", lambda: 2 * landscape.num_bytes - 2)
    monkeypatch.setattr("basinvol.backends.cuda.CudaBackend.unusable", lambda self, device: None)
    monkeypatch.setattr("basinvol.backends.triton.backend.TritonBackend.unusable", lambda self, device: None)
    directions = bv.Directions(bv.ParameterSpace.of(landscape.model), 2)
    with pytest.raises(ValueError, match=r"it keeps a copy of the data, which take .* GiB, more than half of the"):
        bv.RaySolver(landscape, directions, [2.0], backend=backend)
    chosen = bv.RaySolver(landscape, directions, [2.0]).choice
    assert chosen.backend.name == "torch"
    assert f"not {backend}: it keeps a copy of the data" in chosen.reason
    monkeypatch.setattr("basinvol.backends.in_memory.physical_memory", lambda: 2 * landscape.num_bytes)
    assert bv.RaySolver(landscape, directions, [2.0]).choice.backend.name == "native"


def test_dictionaries_count_once() -> None:
    class Sum(nn.Linear):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return super().forward(x) + y

    data = {"x": torch.randn(5, 3), "y": torch.randn(5, 1)}
    landscape = bv.Landscape(Sum(3, 1), lambda outputs, batch: outputs.square().mean(), data)
    assert landscape.num_bytes == 5 * 16


def test_inputs_that_a_model_changes_in_place_are_its_own() -> None:
    inputs = torch.randn(20, 4)
    before = inputs.clone()
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))
    plain = nn.Sequential(nn.ReLU(), model[1])
    for backend in ("torch", "reference"):
        found, expected = (
            bv.estimate_volume(
                m, F.cross_entropy, (inputs, torch.arange(20) % 3), 9.0, 3, backend=backend, batch_size=6
            )
            for m in (model, plain)
        )
        assert found.log_volume == pytest.approx(expected.log_volume, rel=1e-9)
    assert torch.equal(inputs, before)
