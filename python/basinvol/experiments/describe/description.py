"""What an experiment is: which networks are trained, on which data, what varies, and where volumes are measured."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Any

from ...inputs.arguments import one_of

NO_VARIATION = "-"  # the label of a model's variant in experiments where nothing varies

# The estimators of `basinvol.estimators` that an experiment can ask for.
RAY_METHODS = ("star", "paper")
MASS_METHODS = ("annealed", "splitting", "direct")
POOLS = ("clean", "poisoned", "noise", "imbalanced")


@dataclass(frozen=True)
class Mass:
    """A measurement of the mass that is made of every basin besides that by rays, and may be added to a finished run.

    Attributes:
        method: "annealed", "splitting" or "direct", see `basinvol.estimate_volume`.
        sigma: width of the Gaussian around the minimum, in units of the scale.
    """

    method: str
    sigma: float

    def __post_init__(self) -> None:
        one_of("method", self.method, MASS_METHODS)
        if not 0.0 < self.sigma < math.inf:
            raise ValueError(f"`sigma` must be above 0, got {self.sigma:g}.")

    @property
    def label(self) -> str:
        """The name of the measurement in files."""
        return f"{self.method}-{self.sigma:g}"


@dataclass(frozen=True)
class Network:
    """A network with ReLU between its layers: 3x3 convolutions with 2x2 max-pooling, then fully connected layers.

    Attributes:
        inputs: shape of one example, (features,) or (channels, height, width).
        hidden: widths of the fully connected hidden layers.
        outputs: number of output units.
        channels: numbers of channels of the convolutions; empty for a perceptron.
    """

    inputs: tuple[int, ...]
    hidden: tuple[int, ...]
    outputs: int
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Transformer:
    """A network that predicts the next character, in the layout of nanoGPT.

    Every block normalizes its input before causal attention, and again before a perceptron with one hidden layer of
    four times the width and GELU; the result of each is added to its input. Positions are learned, the output layer
    shares the weights of the embedding of characters, and there are no biases and no dropout.

    Attributes:
        context: characters in one example.
        layers: number of blocks.
        heads: attention heads in each block.
        width: numbers with which a character is represented.
        outputs: number of different characters.
    """

    context: int
    layers: int
    heads: int
    width: int
    outputs: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one example."""
        return (self.context,)


@dataclass(frozen=True)
class Data:
    """Where examples come from and what the pool holds.

    Attributes:
        source: name of a data set, see `data.SOURCES`.
        pool: "clean", more examples of the same kind; "poisoned", the same with every label moved to another class;
            "noise", Gaussian inputs with the base's mean and standard deviation and uniform labels; "imbalanced", more
            examples of which 90 % are of the target classes.
        target_classes: the classes that an "imbalanced" pool prefers.
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
    """A training with AdamW, of which the weights of the last epoch are kept.

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples in a step; None for all. Batches are shuffled every epoch by a generator seeded with the
            model seed; a full batch is in the order of the data.
        learning_rate, weight_decay, betas: of AdamW.
        sam_radius: rho of sharpness-aware minimization (Foret et al. 2021): gradients are taken after an ascent step
            of this length; 0 for none.
        is_adaptive: whether that step is scaled by the absolute weights (Kwon et al. 2021).
        num_threads: number of threads of torch while it trains; the last bits of the weights depend on it.
    """

    epochs: int = 500
    batch_size: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    sam_radius: float = 0.0
    is_adaptive: bool = False
    num_threads: int = 1


@dataclass(frozen=True)
class Variation:
    """What differs between models of the same seed and level: one field of `Network` or `Training`.

    Attributes:
        field: its name; values of "epochs" are checkpoints of one training.
        values: the values that it takes, one model each.
        labels: their names in tables and figures.
        title: the name of the field on an axis.
    """

    field: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    title: str


@dataclass(frozen=True)
class Variant:
    """The network and training that one value of a `Variation` stands for."""

    label: str
    network: Network | Transformer
    training: Training


@dataclass(frozen=True)
class Experiment:
    """A sweep of models against landscapes.

    Models are trained from one initialization per seed on base + pool[:level] for every level and variant. The
    landscape of N examples is the loss on the first N of the same examples. Every model is measured on every landscape
    on which its loss is below the cutoff.

    Attributes:
        name: of its family.
        title: what a reader is told of its data and network.
        network, data, training: what every model has in common, but for the variation.
        base: number of examples that every model sees.
        levels: increasing numbers of examples from the pool that models are trained on besides; a size is base + level.
        cutoffs: losses that bound the basins.
        num_directions: random directions for every model.
        preset: "smoke", "small" or "paper".
        landscapes: levels of the landscapes; empty for all `levels`.
        loss: "cross_entropy", "bce_with_logits" or "mse".
        seeds: model seeds m; the data seed is 10 + m.
        scaling: "filter" or "none", see `basinvol.estimate_volume`.
        method: "star" or "paper", see there.
        variation: what differs between models of one seed and level; None for nothing.
        claims: names of the claims that this family can speak to, see `claims.CLAIMS`.
        slice_points: points on each axis of the plane through three minima; 0 for no such figure.
        grid: end and number of points of the grid of method "paper", end x linspace(0, 1, points)^2.
    """

    name: str
    title: str
    network: Network | Transformer
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
    grid: tuple[float, int] = (1.0, 100)

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
        """Number of examples in base and pool together."""
        return self.base + max(self.levels[-1], self.landscape_levels[-1])

    def with_levels(self, levels: tuple[int, ...]) -> Experiment:
        """The same experiment with other levels, and of its landscapes those that are not beyond the largest.

        Args:
            levels: numbers of examples taken from the pool, one training each.
        """
        return replace(self, levels=levels, landscapes=tuple(i for i in self.landscapes if i <= max(levels)))

    def variants(self) -> tuple[Variant, ...]:
        """The networks and trainings that are compared; one if nothing varies."""
        varies = self.variation
        if varies is None:
            return (Variant(NO_VARIATION, self.network, self.training),)
        found = []
        for value, label in zip(varies.values, varies.labels, strict=True):
            change = {varies.field: value}
            if any(field.name == varies.field for field in dataclasses.fields(self.network)):
                found.append(Variant(label, replace(self.network, **change), self.training))
            else:
                found.append(Variant(label, self.network, replace(self.training, **change)))
        return tuple(found)

    def settings(self) -> dict[str, Any]:
        """The experiment as plain values, for config.json."""
        return dataclasses.asdict(self)
