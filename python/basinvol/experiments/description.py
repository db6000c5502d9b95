"""Every experiment as a description: what is trained, on what, and where it is measured. No code path of its own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

METHODS = ("star", "paper")


@dataclass(frozen=True)
class Training:
    """AdamW on the full batch, weights of the last epoch kept.

    Attributes:
        num_threads: torch's while training; one where the last bits must repeat on every machine, None to leave it.
    """

    epochs: int = 500
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    num_threads: int | None = None


@dataclass(frozen=True)
class Experiment:
    """A sweep of models against landscapes.

    Models are trained from one initialization per seed on base + pool[:level] for every level; landscapes are the same
    nested prefixes. Every model is measured on every landscape on which its loss is below the cutoff.

    Attributes:
        data: name of a data set, see `data.load`.
        loss: "cross_entropy" or "bce_with_logits".
        widths: of the perceptron, input to output; ReLU between layers.
        base: number of examples that every model sees.
        levels: increasing numbers of further examples from the pool; a size is base + level.
        seeds: model seeds m; the data seed is 10 + m.
        method: "star" or "paper", see `basinvol.estimate_volume`.
    """

    name: str
    title: str
    data: str
    widths: tuple[int, ...]
    base: int
    levels: tuple[int, ...]
    cutoffs: tuple[float, ...]
    num_directions: int
    seeds: tuple[int, ...] = (0,)
    training: Training = Training()
    loss: str = "cross_entropy"
    scaling: str = "filter"
    method: str = "star"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}, got {self.method!r}.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of examples of each landscape."""
        return tuple(self.base + level for level in self.levels)

    def settings(self) -> dict[str, Any]:
        """All of it as plain values, for config.json."""
        return dataclasses.asdict(self)


_SWISS_ROLL = Experiment(
    name="swiss-roll",
    title="two interleaved spirals, perceptron 2-32x5-1",
    data="swiss-roll",
    loss="bce_with_logits",
    widths=(2, 32, 32, 32, 32, 32, 1),
    base=20,
    levels=(0, 30, 80, 180, 380, 780),
    cutoffs=(0.1,),
    num_directions=1000,
    training=Training(num_threads=1),
)

# Each family by preset: `smoke` for seconds in the test suite, `small` for two cores and packaged data, `paper` for the
# full protocol.
FAMILIES: dict[str, dict[str, Experiment]] = {
    "mnist-data-scaling": {
        "smoke": Experiment(
            name="mnist-data-scaling",
            title="MNIST digits, perceptron 784-32-10 (smoke test)",
            data="packaged-digits",
            widths=(784, 32, 10),
            base=60,
            levels=(0, 140),
            cutoffs=(0.1,),
            num_directions=12,
            training=Training(epochs=60, learning_rate=1e-2),
        ),
        "small": Experiment(
            name="mnist-data-scaling",
            title="MNIST digits (5,000 packaged ones), perceptron 784-256-128-10",
            data="packaged-digits",
            widths=(784, 256, 128, 10),
            base=60,
            levels=(0, 340, 1940, 3940),
            cutoffs=(0.1,),
            num_directions=100,
        ),
    },
    "swiss-roll": {
        "smoke": replace(_SWISS_ROLL, levels=(0, 80), num_directions=12, training=Training(epochs=100, num_threads=1)),
        "small": replace(_SWISS_ROLL, num_directions=200),
        "paper": replace(_SWISS_ROLL, seeds=tuple(range(10))),
    },
}


def describe(name: str, preset: str) -> Experiment:
    """The experiment of this name and preset.

    Raises:
        ValueError: there is none; the message lists what there is.
    """
    if name not in FAMILIES:
        raise ValueError(f"no experiment is called {name!r}; there are: {', '.join(FAMILIES)}.")
    presets = FAMILIES[name]
    if preset not in presets:
        raise ValueError(f"`preset` must be one of {', '.join(map(repr, presets))} for {name}, got {preset!r}.")
    return presets[preset]
