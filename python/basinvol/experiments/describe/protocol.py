"""The paper's protocol: every family of its experiments at full size, as a description."""

from __future__ import annotations

from dataclasses import replace

from .description import Data, Experiment, Network, Training, Transformer, Variation

_MLP = Network((784,), (256, 128), 10)
_COLOR_MLP = Network((3072,), (512, 256), 10)
_SCALING_CLAIMS = ("own_is_largest", "more_data_generalizes", "volume_falls_with_size", "minima_end")
_MNIST_LEVELS = (0, 540, 1940, 5940, 19940, 59940)
_CUTOFFS = (0.1, 0.05, 0.02, 0.01)


MNIST = Experiment(
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
MNIST_CNN = replace(
    MNIST,
    name="mnist-cnn-data-scaling",
    title="MNIST, convolutions 32 and 64, then 3136-128-10",
    network=Network((1, 28, 28), (128,), 10, channels=(32, 64)),
    landscapes=_MNIST_LEVELS[:-1],
    training=Training(epochs=200, batch_size=1024),
    seeds=tuple(range(5)),
)
FASHION = replace(
    MNIST,
    name="fashion-data-scaling",
    title="Fashion-MNIST, perceptron 784-256-128-10",
    data=Data("fashion-mnist"),
    training=Training(epochs=2000),
    seeds=tuple(range(5)),
)
CIFAR10 = replace(
    MNIST,
    name="cifar10-data-scaling",
    title="CIFAR-10, perceptron 3072-512-256-10",
    network=_COLOR_MLP,
    data=Data("cifar10"),
    base=50,
    levels=(0, 450, 1950, 4950, 19950, 49950),
    training=Training(epochs=400, batch_size=5000),
)
CIFAR10_CNN = replace(
    CIFAR10,
    name="cifar10-cnn-data-scaling",
    title="CIFAR-10, convolutions 32, 64 and 128, then 2048-512-256-10",
    network=Network((3, 32, 32), (512, 256), 10, channels=(32, 64, 128)),
    landscapes=(0, 450, 1950, 4950, 19950),
    training=Training(epochs=200, batch_size=1024),
    seeds=tuple(range(5)),
)
SVHN = replace(
    MNIST,
    name="svhn-data-scaling",
    title="SVHN, perceptron 3072-512-256-10",
    network=_COLOR_MLP,
    data=Data("svhn"),
    training=Training(epochs=2000),
    seeds=tuple(range(5)),
)
NANOGPT = Experiment(
    name="nanogpt-data-scaling",
    title="Shakespeare's plays by character, transformer of 6 layers, 6 heads and width 384, context 256",
    network=Transformer(context=256, layers=6, heads=6, width=384, outputs=65),
    data=Data("shakespeare"),
    base=50,
    levels=(0, 200, 950, 4950, 19950),
    cutoffs=(0.5,),
    num_directions=50,
    claims=_SCALING_CLAIMS,
    seeds=tuple(range(5)),
    training=Training(epochs=800, batch_size=64, weight_decay=0.1, betas=(0.9, 0.95)),
    grid=(0.05, 25),
)
MODULAR = Experiment(
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
SWISS_ROLL = Experiment(
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
MNIST_POISON = replace(
    MNIST,
    name="mnist-poisoning",
    title="MNIST with wrong labels added, perceptron 784-256-128-10",
    data=Data("mnist", pool="poisoned"),
    base=6000,
    levels=_POISON_LEVELS,
    landscapes=(0,),
    claims=("bad_data_shrinks",),
)
CIFAR10_POISON = replace(
    CIFAR10,
    name="cifar10-poisoning",
    title="CIFAR-10 with wrong labels added, perceptron 3072-512-256-10",
    data=Data("cifar10", pool="poisoned"),
    base=5000,
    levels=_POISON_LEVELS,
    landscapes=(0,),
    training=Training(epochs=2000),
    claims=("bad_data_shrinks",),
)
SWISS_POISON = replace(
    SWISS_ROLL,
    name="swiss-poisoning",
    title="two spirals with wrong labels added, perceptron 2-32x5-1",
    data=Data("swiss-roll", pool="poisoned"),
    base=400,
    levels=(0, 10, 20, 50, 100),
    landscapes=(0,),
    claims=("bad_data_shrinks",),
)
NOISE = replace(
    MNIST_POISON,
    name="mnist-noise",
    title="MNIST with Gaussian inputs and random labels added, perceptron 784-256-128-10",
    data=Data("mnist", pool="noise"),
)
IMBALANCE = replace(
    MNIST,
    name="mnist-imbalance",
    title="balanced MNIST with further digits of which 90 % are 0 to 4, perceptron 784-256-128-10",
    data=Data("mnist", pool="imbalanced", target_classes=(0, 1, 2, 3, 4)),
    base=1500,
    levels=(0, 1500, 4500, 8500),
    seeds=tuple(range(5)),
)
_BATCH_SIZES = (100, 200, 500, 1000, 3000, 6000)


def batch_sizes(values: tuple[int, ...]) -> Variation:
    """A variation with one model for each batch size."""
    return Variation("batch_size", values, tuple(f"batch {value}" for value in values), "batch size")


BATCH = replace(
    MNIST,
    name="mnist-batch-size",
    title="MNIST by batch size, perceptron 784-256-128-10",
    base=6000,
    levels=(0,),
    cutoffs=(0.01, 0.005, 0.002),
    variation=batch_sizes(_BATCH_SIZES),
    claims=("variation_matters",),
)
SAM = replace(
    MNIST,
    name="mnist-sam",
    title="MNIST, AdamW against sharpness-aware minimization, perceptron 784-256-128-10",
    variation=Variation("sam_radius", (0.0, 0.05), ("AdamW", "SAM"), "optimizer"),
    claims=("sam_is_larger", "own_is_largest", "volume_falls_with_size"),
)


def checkpoints(epochs: tuple[int, ...]) -> Variation:
    """A variation with one model for each of these epochs of one training."""
    return Variation("epochs", epochs, tuple(f"epoch {epoch}" for epoch in epochs), "epoch")


GROKKING = replace(
    MODULAR,
    name="grokking",
    title="addition modulo 97 over training, perceptron 194-250-97",
    levels=(2634,),
    training=Training(epochs=5000),
    variation=checkpoints((200, 400, 600, 800, 1000, 1500, 2000, 3000, 4000, 5000)),
    claims=("volume_falls_while_accuracy_rises",),
)
NO_FILTER = replace(
    MNIST,
    name="mnist-no-filter",
    title="MNIST without filter normalization, perceptron 784-256-128-10",
    scaling="none",
    claims=("order_survives", *_SCALING_CLAIMS),
)
WIDTHS = Variation("hidden", ((256, 128), (256, 256, 128)), ("narrow", "wide"), "network")
WIDE = replace(
    MNIST,
    name="mnist-wide",
    title="MNIST, perceptrons 784-256-128-10 and 784-256-256-128-10",
    training=Training(epochs=700),
    variation=WIDTHS,
    claims=("variation_matters", *_SCALING_CLAIMS),
)
