"""What an experiment is: what is trained, on what, what varies, and where it is measured. No code path of its own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

from ...inputs.arguments import one_of

NO_VARIATION = "-"  # the variant of a model where nothing varies

# How radii are found: the two ways that an experiment offers of those in `basinvol.estimators`.
RAY_METHODS = ("star", "paper")
POOLS = ("clean", "poisoned", "noise", "imbalanced")


@dataclass(frozen=True)
class Network:
    """ReLU between layers: 3x3 convolutions, each followed by 2x2 max-pooling, then fully connected layers.

    Attributes:
        inputs: shape of one example, (features,) or (channels, height, width).
        hidden: widths of the fully connected hidden layers.
        outputs: number of output units.
        channels: of the convolutions; none for a perceptron.
    """

    inputs: tuple[int, ...]
    hidden: tuple[int, ...]
    outputs: int
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Data:
    """Where examples come from and what the pool holds.

    Attributes:
        source: name of a data set, see `data.SOURCES`.
        pool: "clean", further examples; "poisoned", the same with every label moved to another class; "noise", Gaussian
            inputs with the base's mean and standard deviation and uniform labels; "imbalanced", further examples of
            which 90 % are of the target classes.
        target_classes: for "imbalanced".
        num_test: examples kept for testing, for sources that have no test set of their own.
    """

    source: str
    pool: str = "clean"
    target_classes: tuple[int, ...] = ()
    num_test: int = 1000

    def __post_init__(self) -> None:
        one_of("pool", self.pool, POOLS)


@dataclass(frozen=True)
class Training:
    """AdamW, the weights of the last epoch kept.

    Attributes:
        batch_size: examples to a step; None for all. Batches are shuffled every epoch by a generator seeded with the
            model seed; a full batch is in the order of the data.
        sam_radius: rho of sharpness-aware minimization (Foret et al. 2021): gradients are taken after an ascent step
            of this length; 0 for none.
        is_adaptive: scale that step by the absolute weights (Kwon et al. 2021).
        num_threads: torch's while training; the last bits of the weights depend on it.
    """

    epochs: int = 500
    batch_size: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    sam_radius: float = 0.0
    is_adaptive: bool = False
    num_threads: int = 1


@dataclass(frozen=True)
class Variation:
    """What differs between models of the same seed and level: one field of `Network` or `Training`.

    Attributes:
        field: its name; values of "epochs" are checkpoints of one training.
        values: what it takes; one model each.
        labels: their names in tables and figures.
        title: what it is called on an axis.
    """

    field: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    title: str


@dataclass(frozen=True)
class Variant:
    """A network and its training; what one value of a `Variation` stands for."""

    label: str
    network: Network
    training: Training


@dataclass(frozen=True)
class Experiment:
    """A sweep of models against landscapes.

    Models are trained from one initialization per seed on base + pool[:level] for every level and variant; landscapes
    are nested prefixes of the same examples. Every model is measured on every landscape on which its loss is below
    the cutoff.

    Attributes:
        base: number of examples that every model sees.
        levels: increasing numbers of further examples from the pool; a size is base + level.
        landscapes: levels of the landscapes; empty for all `levels`.
        loss: "cross_entropy", "bce_with_logits" or "mse".
        seeds: model seeds m; the data seed is 10 + m.
        method: "star" or "paper", see `basinvol.estimate_volume`.
        claims: names of the claims that this family can speak to, see `claims.CLAIMS`.
        slice_points: of each axis of the plane through three minima; 0 for no such figure.
    """

    name: str
    title: str
    network: Network
    data: Data
    base: int
    levels: tuple[int, ...]
    cutoffs: tuple[float, ...]
    num_directions: int
    claims: tuple[str, ...]
    preset: str = "paper"
    landscapes: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0,)
    training: Training = Training()
    loss: str = "cross_entropy"
    scaling: str = "filter"
    method: str = "star"
    variation: Variation | None = None
    slice_points: int = 0

    def __post_init__(self) -> None:
        one_of("method", self.method, RAY_METHODS)
        for name, levels in (("levels", self.levels), ("landscapes", self.landscapes)):
            if any(a >= b for a, b in zip((-1, *levels), levels, strict=False)):
                raise ValueError(f"`{name}` must be increasing numbers of examples from 0 on, got {list(levels)}.")
        if not self.levels or not self.seeds or not self.cutoffs:
            raise ValueError("`levels`, `seeds` and `cutoffs` must name at least one each.")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"`seeds` must be different numbers from 0 on, got {list(self.seeds)}.")

    @property
    def landscape_levels(self) -> tuple[int, ...]:
        """Number of pool examples of each landscape."""
        return self.landscapes or self.levels

    @property
    def landscape_sizes(self) -> tuple[int, ...]:
        """Number of examples of each landscape."""
        return tuple(self.base + level for level in self.landscape_levels)

    @property
    def num_examples(self) -> int:
        """Base and pool together."""
        return self.base + max(self.levels[-1], self.landscape_levels[-1])

    def variants(self) -> tuple[Variant, ...]:
        """The networks and trainings that are compared; one if nothing varies."""
        varies = self.variation
        if varies is None:
            return (Variant(NO_VARIATION, self.network, self.training),)
        found = []
        for value, label in zip(varies.values, varies.labels, strict=True):
            change = {varies.field: value}
            if any(field.name == varies.field for field in dataclasses.fields(Network)):
                found.append(Variant(label, replace(self.network, **change), self.training))
            else:
                found.append(Variant(label, self.network, replace(self.training, **change)))
        return tuple(found)

    def settings(self) -> dict[str, Any]:
        """All of it as plain values, for config.json."""
        return dataclasses.asdict(self)
