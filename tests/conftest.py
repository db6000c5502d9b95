"""Small networks, data and bodies that several files test with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn
from torch.nn import functional as F

# Read when triton is first imported, by whichever test comes first: Lightning imports it, too.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "identity": nn.Identity}
MlpMaker = Callable[..., nn.Sequential]

settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")


class Body(nn.Module):
    """{w in R^P: gauge(w) <= cutoff} as a model: every example's output is the gauge at the parameters."""

    def __init__(self, gauge: Callable[[Tensor], Tensor], dim: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dim, dtype=dtype))
        self.gauge = gauge

    def forward(self, inputs: Tensor) -> Tensor:
        return self.gauge(self.w).expand(len(inputs))


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of a `Body`: its gauge, whatever the data."""
    return outputs.mean()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads only wait for each other on tensors this small; the tests of threads ask for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _fixed_seed() -> Iterator[None]:
    """The library takes no random numbers from torch; the tests' own data do."""
    torch.manual_seed(20240607)
    return


@pytest.fixture(scope="module")
def rays_together() -> Iterator[None]:
    """128 rays in one step instead of a few: no byte changes (tests/rays), and threads are started less often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basinvol.backends.reference.ReferenceEngine.step", 128)
        patch.setattr("basinvol.backends.pytorch.engine._SHORT_STEP", 128)
        yield


@pytest.fixture(scope="session")
def body() -> type[Body]:
    """Makes a model whose basin is a body of known volume."""
    return Body


@pytest.fixture(scope="session")
def body_loss() -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that goes with `body`."""
    return mean_output


@pytest.fixture(scope="session")
def one_example() -> tuple[Tensor, Tensor]:
    """Data for a `body`, which does not look at them."""
    return torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1)


@pytest.fixture(scope="session")
def make_mlp() -> MlpMaker:
    """make_mlp([5, 4, 3], "tanh", bias=True, seed=0): a perceptron with torch's initialization."""

    def make(widths: list[int], activation: str = "relu", bias: bool = True, seed: int = 0) -> nn.Sequential:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for inputs, outputs in itertools.pairwise(widths):
                layers += [nn.Linear(inputs, outputs, bias=bias), ACTIVATIONS[activation]()]
        return nn.Sequential(*layers[:-1])

    return make


@pytest.fixture(scope="session")
def blobs() -> tuple[Tensor, Tensor]:
    """90 examples of three overlapping classes in 12 features."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(90) % 3
    centers = torch.randn(3, 12, generator=generator)
    return centers[labels] + torch.randn(90, 12, generator=generator), labels


@pytest.fixture(scope="session")
def trained(make_mlp: MlpMaker, blobs: tuple[Tensor, Tensor]) -> nn.Sequential:
    """A 12-16-9-3 ReLU network trained on `blobs` to a loss far below 0.1; treat it as read-only."""
    model = make_mlp([12, 16, 9, 3])
    inputs, labels = blobs
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert F.cross_entropy(model(inputs), labels) < 0.02
    return model


def contents_of(run: Path) -> dict[str, bytes]:
    """Every file of a run but the timings and the report; the seconds column of volumes.csv is left out."""
    files = {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}
    del files["timings.csv"]
    volumes = pd.read_csv(run / "volumes.csv").drop(columns="seconds")
    files["volumes.csv"] = volumes.to_csv().encode()
    return {name: content for name, content in files.items() if not name.startswith(("figures", "report.html"))}


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """contents(run): what two runs of the same settings must have in common, byte for byte."""
    return contents_of
