"""The paper's experiments, each as a description.

Three presets of each: `smoke` for seconds in the test suite; `small` for two cores and data that come with packages,
which for Fashion-MNIST, CIFAR-10 and SVHN are stand-ins of the same shape; `paper` for the full protocol.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .description import Data, Experiment, Network, Training, Variation

_DIGITS = Data("packaged-digits")
_MLP = Network((784,), (256, 128), 10)
_SMALL_MLP = Network((784,), (32,), 10)
_COLOUR_MLP = Network((3072,), (512, 256), 10)
_QUICK = Training(epochs=60, learning_rate=1e-2)

_SCALING_CLAIMS = ("own_is_largest", "more_data_generalizes", "volume_falls_with_size", "minima_end")
_MNIST_LEVELS = (0, 540, 1940, 5940, 19940, 59940)
_CUTOFFS = (0.1, 0.05, 0.02, 0.01)


def _family(paper: Experiment, small: dict[str, Any], smoke: dict[str, Any]) -> dict[str, Experiment]:
    """The presets of one family; `small` and `smoke` are what they change of `paper` and of `small`."""
    # Single numbers are published of seed 1.
    small = {"seeds": (1,), "slice_points": 25, **small}
    smoke = {"seeds": (0,), "num_directions": 12, "training": _QUICK, "slice_points": 3, **smoke}
    reduced = replace(paper, preset="small", **small)
    return {"smoke": replace(reduced, preset="smoke", **smoke), "small": reduced, "paper": paper}


_MNIST = Experiment(
    name="mnist-data-scaling",
    title="MNIST, perceptron 784-256-128-10",
    network=_MLP,
    data=Data("mnist"),
    base=60,
    levels=_MNIST_LEVELS,
    cutoffs=_CUTOFFS,
    num_directions=500,
    claims=_SCALING_CLAIMS,
    seeds=tuple(range(10)),
    slice_points=31,
)
_MNIST_SMALL: dict[str, Any] = {
    "title": "5,000 MNIST digits, perceptron 784-256-128-10",
    "data": _DIGITS,
    "levels": (0, 340, 1940, 3940),
    "cutoffs": (0.1,),
    "num_directions": 100,
}
_MNIST_SMOKE: dict[str, Any] = {
    "title": "MNIST digits, perceptron 784-32-10 (smoke test)",
    "network": _SMALL_MLP,
    "levels": (0, 140),
}

_MNIST_CNN = replace(
    _MNIST,
    name="mnist-cnn-data-scaling",
    title="MNIST, convolutions 32 and 64, then 3136-128-10",
    network=Network((1, 28, 28), (128,), 10, channels=(32, 64)),
    landscapes=_MNIST_LEVELS[:-1],
    training=Training(epochs=200, batch_size=1024),
    seeds=tuple(range(5)),
)
_FASHION = replace(
    _MNIST,
    name="fashion-data-scaling",
    title="Fashion-MNIST, perceptron 784-256-128-10",
    data=Data("fashion-mnist"),
    training=Training(epochs=2000),
    seeds=tuple(range(5)),
)
_CIFAR10 = replace(
    _MNIST,
    name="cifar10-data-scaling",
    title="CIFAR-10, perceptron 3072-512-256-10",
    network=_COLOUR_MLP,
    data=Data("cifar10"),
    base=50,
    levels=(0, 450, 1950, 4950, 19950, 49950),
    training=Training(epochs=400, batch_size=5000),
)
_CIFAR10_CNN = replace(
    _CIFAR10,
    name="cifar10-cnn-data-scaling",
    title="CIFAR-10, convolutions 32, 64 and 128, then 2048-512-256-10",
    network=Network((3, 32, 32), (512, 256), 10, channels=(32, 64, 128)),
    landscapes=(0, 450, 1950, 4950, 19950),
    training=Training(epochs=200, batch_size=1024),
    seeds=tuple(range(5)),
)
_SVHN = replace(
    _MNIST,
    name="svhn-data-scaling",
    title="SVHN, perceptron 3072-512-256-10",
    network=_COLOUR_MLP,
    data=Data("svhn"),
    training=Training(epochs=2000),
    seeds=tuple(range(5)),
)
_MODULAR = Experiment(
    name="modular-data-scaling",
    title="addition modulo 97, perceptron 194-250-97",
    network=Network((194,), (250,), 97),
    data=Data("modular", num_test=2823),
    base=188,
    levels=(282, 752, 1693, 2634, 3104, 3575, 4516, 5457, 6398),
    cutoffs=(0.01, 0.005, 0.002, 0.001),
    num_directions=500,
    claims=_SCALING_CLAIMS,
    seeds=tuple(range(10)),
    loss="mse",
    slice_points=31,
)
_SWISS_ROLL = Experiment(
    name="swiss-roll",
    title="two interleaved spirals, perceptron 2-32x5-1",
    network=Network((2,), (32,) * 5, 1),
    data=Data("swiss-roll"),
    base=20,
    levels=(0, 30, 80, 180, 380, 780),
    cutoffs=(0.1,),
    num_directions=1000,
    claims=_SCALING_CLAIMS,
    seeds=tuple(range(10)),
    loss="bce_with_logits",
    slice_points=31,
)
_POISON_LEVELS = (0, 100, 500, 1000, 2000)
_MNIST_POISON = replace(
    _MNIST,
    name="mnist-poisoning",
    title="MNIST with wrong labels added, perceptron 784-256-128-10",
    data=Data("mnist", pool="poisoned"),
    base=6000,
    levels=_POISON_LEVELS,
    landscapes=(0,),
    claims=("bad_data_shrinks",),
)
_CIFAR10_POISON = replace(
    _CIFAR10,
    name="cifar10-poisoning",
    title="CIFAR-10 with wrong labels added, perceptron 3072-512-256-10",
    data=Data("cifar10", pool="poisoned"),
    base=5000,
    levels=_POISON_LEVELS,
    landscapes=(0,),
    training=Training(epochs=2000),
    claims=("bad_data_shrinks",),
)
_SWISS_POISON = replace(
    _SWISS_ROLL,
    name="swiss-poisoning",
    title="two spirals with wrong labels added, perceptron 2-32x5-1",
    data=Data("swiss-roll", pool="poisoned"),
    base=400,
    levels=(0, 10, 20, 50, 100),
    landscapes=(0,),
    claims=("bad_data_shrinks",),
)
_NOISE = replace(
    _MNIST_POISON,
    name="mnist-noise",
    title="MNIST with Gaussian inputs and random labels added, perceptron 784-256-128-10",
    data=Data("mnist", pool="noise"),
)
_IMBALANCE = replace(
    _MNIST,
    name="mnist-imbalance",
    title="balanced MNIST with further digits of which 90 % are 0 to 4, perceptron 784-256-128-10",
    data=Data("mnist", pool="imbalanced", target_classes=(0, 1, 2, 3, 4)),
    base=1500,
    levels=(0, 1500, 4500, 8500),
    seeds=tuple(range(5)),
)
_BATCH_SIZES = (100, 200, 500, 1000, 3000, 6000)


def _batch_sizes(values: tuple[int, ...]) -> Variation:
    return Variation("batch_size", values, tuple(f"batch {value}" for value in values), "batch size")


_BATCH = replace(
    _MNIST,
    name="mnist-batch-size",
    title="MNIST by batch size, perceptron 784-256-128-10",
    base=6000,
    levels=(0,),
    cutoffs=(0.01, 0.005, 0.002),
    variation=_batch_sizes(_BATCH_SIZES),
    claims=("variation_matters",),
)
_SAM = replace(
    _MNIST,
    name="mnist-sam",
    title="MNIST, AdamW against sharpness-aware minimization, perceptron 784-256-128-10",
    variation=Variation("sam_radius", (0.0, 0.05), ("AdamW", "SAM"), "optimizer"),
    claims=("sam_is_larger", "own_is_largest", "volume_falls_with_size"),
)


def _checkpoints(epochs: tuple[int, ...]) -> Variation:
    return Variation("epochs", epochs, tuple(f"epoch {epoch}" for epoch in epochs), "epoch")


_GROKKING = replace(
    _MODULAR,
    name="grokking",
    title="addition modulo 97 over training, perceptron 194-250-97",
    levels=(2634,),
    training=Training(epochs=5000),
    variation=_checkpoints((200, 400, 600, 800, 1000, 1500, 2000, 3000, 4000, 5000)),
    claims=("volume_falls_while_accuracy_rises",),
)
_NO_FILTER = replace(
    _MNIST,
    name="mnist-no-filter",
    title="MNIST without filter normalization, perceptron 784-256-128-10",
    scaling="none",
    claims=("order_survives", *_SCALING_CLAIMS),
)
_WIDTHS = Variation("hidden", ((256, 128), (256, 256, 128)), ("narrow", "wide"), "network")
_WIDE = replace(
    _MNIST,
    name="mnist-wide",
    title="MNIST, perceptrons 784-256-128-10 and 784-256-256-128-10",
    training=Training(epochs=700),
    variation=_WIDTHS,
    claims=("variation_matters", *_SCALING_CLAIMS),
)

_THREE_SEEDS = (0, 1, 2)
_PHOTOS = "(stand-in: patches of two photographs)"
_ON_PHOTOS = "(stand-in: MNIST digits on photographs)"
_SWISS_SMALL: dict[str, Any] = {"seeds": (0, 1, 2), "num_directions": 500}
_QUICK_SWISS = Training(epochs=300, learning_rate=3e-3)
_QUICK_COLOUR: dict[str, Any] = {
    "network": Network((3072,), (64,), 10),
    "cutoffs": (1.0,),
    "training": Training(epochs=100),
}
_QUICK_CNN: dict[str, Any] = {"num_directions": 4, "training": Training(epochs=20, learning_rate=1e-2)}

FAMILIES: dict[str, dict[str, Experiment]] = {
    "mnist-data-scaling": _family(_MNIST, _MNIST_SMALL | {"seeds": _THREE_SEEDS}, _MNIST_SMOKE),
    "mnist-cnn-data-scaling": _family(
        _MNIST_CNN,
        {
            "title": "5,000 MNIST digits, convolutions 8 and 16, then 784-32-10",
            "network": Network((1, 28, 28), (32,), 10, channels=(8, 16)),
            "data": _DIGITS,
            "levels": (0, 140, 540),
            "landscapes": (),
            "cutoffs": (0.1,),
            "num_directions": 30,
        },
        {"network": Network((1, 28, 28), (), 10, channels=(4, 4)), "levels": (0, 60), **_QUICK_CNN},
    ),
    "fashion-data-scaling": _family(
        _FASHION,
        {
            "title": "8x8 digits of scikit-learn, enlarged (stand-in for Fashion-MNIST), perceptron 784-256-128-10",
            "data": Data("small-digits", num_test=400),
            "levels": (0, 240, 1240),
            "cutoffs": (0.1,),
            "num_directions": 100,
            "training": Training(epochs=500),
        },
        {"network": _SMALL_MLP, "levels": (0, 140)},
    ),
    "cifar10-data-scaling": _family(
        _CIFAR10,
        {
            "title": f"colour images {_PHOTOS}, perceptron 3072-128-64-10",
            "network": Network((3072,), (128, 64), 10),
            "data": Data("photo-patches"),
            "levels": (0, 450, 1950),
            "cutoffs": (0.1,),
            "num_directions": 100,
        },
        {"levels": (0, 50), **_QUICK_COLOUR},
    ),
    "cifar10-cnn-data-scaling": _family(
        _CIFAR10_CNN,
        {
            "title": f"colour images {_PHOTOS}, convolutions 8, 16 and 16, then 256-32-10",
            "network": Network((3, 32, 32), (32,), 10, channels=(8, 16, 16)),
            "data": Data("photo-patches"),
            "levels": (0, 150, 450),
            "landscapes": (),
            "cutoffs": (0.1,),
            "num_directions": 30,
        },
        {
            "network": Network((3, 32, 32), (), 10, channels=(4, 4, 4)),
            "levels": (0, 50),
            "cutoffs": (2.0,),
            **_QUICK_CNN,
        },
    ),
    "svhn-data-scaling": _family(
        _SVHN,
        {
            "title": f"house numbers {_ON_PHOTOS}, perceptron 3072-128-64-10",
            "network": Network((3072,), (128, 64), 10),
            "data": Data("digits-on-photos"),
            "levels": (0, 540, 2940),
            "cutoffs": (0.1,),
            "num_directions": 100,
            "training": Training(epochs=400),
        },
        {"levels": (0, 60), **_QUICK_COLOUR},
    ),
    "modular-data-scaling": _family(
        _MODULAR,
        {"seeds": _THREE_SEEDS, "levels": (282, 1693, 3575, 6398), "cutoffs": (0.01, 0.005), "num_directions": 100},
        {"network": Network((194,), (32,), 97), "levels": (92, 282), "cutoffs": (0.01,)},
    ),
    "swiss-roll": _family(_SWISS_ROLL, _SWISS_SMALL, {"levels": (0, 80), "training": _QUICK_SWISS}),
    "mnist-poisoning": _family(
        _MNIST_POISON,
        {
            "title": "5,000 MNIST digits, 1,000 clean with wrong labels added, perceptron 784-256-128-10",
            "data": Data("packaged-digits", pool="poisoned"),
            "base": 1000,
            "levels": (0, 25, 100, 250, 500),
            "cutoffs": (0.1,),
            "num_directions": 100,
            "seeds": _THREE_SEEDS,
        },
        {"network": _SMALL_MLP, "base": 100, "levels": (0, 20)},
    ),
    "cifar10-poisoning": _family(
        _CIFAR10_POISON,
        {
            "title": f"colour images {_PHOTOS} with wrong labels added, perceptron 3072-128-64-10",
            "network": Network((3072,), (128, 64), 10),
            "data": Data("photo-patches", pool="poisoned"),
            "base": 500,
            "levels": (0, 25, 100, 200),
            "cutoffs": (0.1,),
            "num_directions": 100,
            "training": Training(epochs=500),
        },
        {"base": 50, "levels": (0, 10), **_QUICK_COLOUR},
    ),
    "swiss-poisoning": _family(_SWISS_POISON, _SWISS_SMALL, {"base": 60, "levels": (0, 10), "training": _QUICK_SWISS}),
    "mnist-noise": _family(
        _NOISE,
        {
            "title": "5,000 MNIST digits, 1,000 with Gaussian inputs and random labels, perceptron 784-256-128-10",
            "data": Data("packaged-digits", pool="noise"),
            "base": 1000,
            "levels": (0, 100, 250, 500),
            "cutoffs": (0.1,),
            "num_directions": 100,
        },
        {"network": _SMALL_MLP, "base": 100, "levels": (0, 20)},
    ),
    "mnist-imbalance": _family(
        _IMBALANCE,
        {
            "title": "5,000 MNIST digits, 200 balanced, then 90 % of 0 to 4, perceptron 784-256-128-10",
            "data": replace(_IMBALANCE.data, source="packaged-digits"),
            "base": 200,
            "levels": (0, 200, 600, 1800),
            "cutoffs": (0.1,),
            "num_directions": 100,
        },
        {"network": _SMALL_MLP, "base": 60, "levels": (0, 60)},
    ),
    "mnist-batch-size": _family(
        _BATCH,
        {
            "title": "1,000 MNIST digits by batch size, perceptron 784-256-128-10",
            "data": _DIGITS,
            "base": 1000,
            "variation": _batch_sizes((50, 200, 500, 1000)),
            "seeds": (1, 2),
            "num_directions": 100,
            "training": Training(epochs=300),
        },
        {"network": _SMALL_MLP, "base": 60, "variation": _batch_sizes((20, 60))},
    ),
    "mnist-sam": _family(
        _SAM,
        _MNIST_SMALL
        | {
            "title": "5,000 MNIST digits, AdamW against sharpness-aware minimization, perceptron 784-256-128-10",
            "levels": (0, 340, 1940),
        },
        _MNIST_SMOKE,
    ),
    "grokking": _family(
        _GROKKING,
        {
            "variation": _checkpoints((200, 400, 600, 1000, 2000, 3000)),
            "training": Training(epochs=3000),
            "cutoffs": (0.01,),
            "num_directions": 100,
        },
        {
            "network": Network((194,), (32,), 97),
            "levels": (282,),
            "cutoffs": (0.01,),
            "variation": _checkpoints((30, 60)),
        },
    ),
    "mnist-no-filter": _family(
        _NO_FILTER,
        _MNIST_SMALL | {"title": "5,000 MNIST digits without filter normalization, perceptron 784-256-128-10"},
        _MNIST_SMOKE,
    ),
    "mnist-wide": _family(
        _WIDE,
        _MNIST_SMALL
        | {
            "title": "5,000 MNIST digits, perceptrons 784-256-128-10 and 784-256-256-128-10",
            "levels": (0, 340, 1940),
            "training": Training(epochs=500),
        },
        _MNIST_SMOKE | {"variation": replace(_WIDTHS, values=((32,), (32, 32)))},
    ),
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
        raise ValueError(f"`preset` must be one of {', '.join(map(repr, presets))}, got {preset!r}.")
    return presets[preset]
