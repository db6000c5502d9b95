"""The paper's experiments in three sizes.

The preset `smoke` takes seconds and is for the test suite. `small` is for two cores and for data that come with Python
or its packages; for Fashion-MNIST, CIFAR-10, SVHN and Shakespeare's plays these are stand-ins of the same shape. The
preset `paper` is the full protocol.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...inputs.arguments import one_of
from . import protocol
from .description import Data, Experiment, Network, Training, Transformer

_DIGITS = Data("packaged-digits")
_SMALL_MLP = Network((784,), (32,), 10)
_QUICK = Training(epochs=60, learning_rate=1e-2)


def _family(paper: Experiment, small: dict[str, Any], smoke: dict[str, Any]) -> dict[str, Experiment]:
    """The presets of one family.

    Args:
        paper: the full protocol.
        small: the fields in which `small` differs from `paper`.
        smoke: the fields in which `smoke` differs from `small`.
    """
    # The numbers that are published of single minima are those of seed 1.
    small = {"seeds": (1,), "slice_points": 25, **small}
    smoke = {"seeds": (0,), "num_directions": 12, "training": _QUICK, "slice_points": 3, **smoke}
    reduced = replace(paper, preset="small", **small)
    return {"smoke": replace(reduced, preset="smoke", **smoke), "small": reduced, "paper": paper}


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

_THREE_SEEDS = (0, 1, 2)
_PHOTOS = "(stand-in: patches of two photographs)"
_ON_PHOTOS = "(stand-in: MNIST digits on photographs)"
_SWISS_SMALL: dict[str, Any] = {"seeds": (0, 1, 2), "num_directions": 500}
_QUICK_SWISS = Training(epochs=300, learning_rate=3e-3)
_QUICK_COLOR: dict[str, Any] = {
    "network": Network((3072,), (64,), 10),
    "training": Training(epochs=100),
}
_QUICK_CNN: dict[str, Any] = {"num_directions": 4, "training": Training(epochs=20, learning_rate=1e-2)}

FAMILIES: dict[str, dict[str, Experiment]] = {
    "mnist-data-scaling": _family(protocol.MNIST, _MNIST_SMALL | {"seeds": _THREE_SEEDS}, _MNIST_SMOKE),
    "mnist-cnn-data-scaling": _family(
        protocol.MNIST_CNN,
        {
            "title": "5,000 MNIST digits, convolutions 32 and 64, then 3136-128-10",
            "data": _DIGITS,
            "levels": (0, 140, 540),
            "landscapes": (),
            "cutoffs": (0.1,),
            "num_directions": 30,
        },
        {"network": Network((1, 28, 28), (), 10, channels=(4, 4)), "levels": (0, 60), **_QUICK_CNN},
    ),
    "fashion-data-scaling": _family(
        protocol.FASHION,
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
        protocol.CIFAR10,
        {
            "title": f"color images {_PHOTOS}, perceptron 3072-128-64-10",
            "network": Network((3072,), (128, 64), 10),
            "data": Data("photo-patches"),
            "levels": (0, 450, 1450),
            "cutoffs": (0.1,),
            "num_directions": 100,
        },
        {"levels": (0, 50), **_QUICK_COLOR},
    ),
    "cifar10-cnn-data-scaling": _family(
        protocol.CIFAR10_CNN,
        {
            "title": f"color images {_PHOTOS}, convolutions 32, 64 and 128, then 2048-512-256-10",
            "data": Data("photo-patches"),
            "levels": (0, 100, 300),
            "landscapes": (),
            "cutoffs": (0.1,),
            "num_directions": 30,
            "training": Training(epochs=300, learning_rate=3e-3),
        },
        {
            "network": Network((3, 32, 32), (), 10, channels=(4, 4, 4)),
            "levels": (0, 50),
            "cutoffs": (2.0,),
            **_QUICK_CNN,
        },
    ),
    "svhn-data-scaling": _family(
        protocol.SVHN,
        {
            "title": f"house numbers {_ON_PHOTOS}, perceptron 3072-128-64-10",
            "network": Network((3072,), (128, 64), 10),
            "data": Data("digits-on-photos"),
            "levels": (0, 540, 2940),
            "cutoffs": (0.1,),
            "num_directions": 100,
            "training": Training(epochs=400),
        },
        {"levels": (0, 60), **_QUICK_COLOR},
    ),
    "nanogpt-data-scaling": _family(
        protocol.NANOGPT,
        {
            "title": (
                "help pages of Python by character (stand-in for Shakespeare), transformer of 4 layers, 4 heads and "
                "width 128, context 64"
            ),
            "network": Transformer(context=64, layers=4, heads=4, width=128, outputs=96),
            "data": Data("python-help", num_test=200),
            "levels": (0, 50, 150),
            "num_directions": 30,
            "training": replace(protocol.NANOGPT.training, epochs=100, batch_size=16),
            "slice_points": 0,
        },
        {
            "network": Transformer(context=16, layers=1, heads=2, width=16, outputs=96),
            "levels": (0, 20),
            "cutoffs": (2.0,),
            "num_directions": 4,
            "training": Training(epochs=100, learning_rate=1e-2),
            "slice_points": 0,
        },
    ),
    "modular-data-scaling": _family(
        protocol.MODULAR,
        {"seeds": _THREE_SEEDS, "levels": (282, 1693, 3575, 6398), "cutoffs": (0.01, 0.005), "num_directions": 100},
        {"network": Network((194,), (32,), 97), "levels": (92, 282), "cutoffs": (0.01,)},
    ),
    "swiss-roll": _family(protocol.SWISS_ROLL, _SWISS_SMALL, {"levels": (0, 80), "training": _QUICK_SWISS}),
    "mnist-poisoning": _family(
        protocol.MNIST_POISON,
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
        protocol.CIFAR10_POISON,
        {
            "title": f"color images {_PHOTOS} with wrong labels added, perceptron 3072-128-64-10",
            "network": Network((3072,), (128, 64), 10),
            "data": Data("photo-patches", pool="poisoned"),
            "base": 500,
            "levels": (0, 25, 100, 200),
            "cutoffs": (0.1,),
            "num_directions": 100,
            "training": Training(epochs=500),
        },
        {"base": 50, "levels": (0, 10), **_QUICK_COLOR},
    ),
    "swiss-poisoning": _family(
        protocol.SWISS_POISON, _SWISS_SMALL, {"base": 60, "levels": (0, 10), "training": _QUICK_SWISS}
    ),
    "mnist-noise": _family(
        protocol.NOISE,
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
        protocol.IMBALANCE,
        {
            "title": "5,000 MNIST digits, 200 balanced, then 90 % of 0 to 4, perceptron 784-256-128-10",
            "data": replace(protocol.IMBALANCE.data, source="packaged-digits"),
            "base": 200,
            "levels": (0, 200, 600, 1800),
            "cutoffs": (0.1,),
            "num_directions": 100,
        },
        {"network": _SMALL_MLP, "base": 60, "levels": (0, 60)},
    ),
    "mnist-batch-size": _family(
        protocol.BATCH,
        {
            "title": "1,000 MNIST digits by batch size, perceptron 784-256-128-10",
            "data": _DIGITS,
            "base": 1000,
            "variation": protocol.batch_sizes((50, 200, 500, 1000)),
            "seeds": (1, 2),
            "num_directions": 100,
            "training": Training(epochs=300),
        },
        {"network": _SMALL_MLP, "base": 60, "variation": protocol.batch_sizes((20, 60))},
    ),
    "mnist-sam": _family(
        protocol.SAM,
        _MNIST_SMALL
        | {
            "title": "5,000 MNIST digits, AdamW against sharpness-aware minimization, perceptron 784-256-128-10",
            "levels": (0, 340, 1940),
        },
        _MNIST_SMOKE,
    ),
    "grokking": _family(
        protocol.GROKKING,
        {
            "variation": protocol.checkpoints((200, 400, 600, 1000, 2000, 3000)),
            "training": Training(epochs=3000),
            "cutoffs": (0.01,),
            "num_directions": 100,
        },
        {
            "network": Network((194,), (32,), 97),
            "levels": (282,),
            "cutoffs": (0.01,),
            "variation": protocol.checkpoints((30, 60)),
        },
    ),
    "mnist-no-filter": _family(
        protocol.NO_FILTER,
        _MNIST_SMALL | {"title": "5,000 MNIST digits without filter normalization, perceptron 784-256-128-10"},
        _MNIST_SMOKE,
    ),
    "mnist-wide": _family(
        protocol.WIDE,
        _MNIST_SMALL
        | {
            "title": "5,000 MNIST digits, perceptrons 784-256-128-10 and 784-256-256-128-10",
            "levels": (0, 340, 1940),
            "training": Training(epochs=500),
            "seeds": (1, 2),
        },
        _MNIST_SMOKE | {"variation": replace(protocol.WIDTHS, values=((32,), (32, 32)))},
    ),
}


def describe(name: str, preset: str) -> Experiment:
    """The experiment of this name and preset.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if name not in FAMILIES:
        raise ValueError(f"no experiment is called {name!r}; there are: {', '.join(FAMILIES)}.")
    presets = FAMILIES[name]
    one_of("preset", preset, presets)
    return presets[preset]
