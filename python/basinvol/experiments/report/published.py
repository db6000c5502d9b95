"""Numbers that Fan, Sandlund and Ko published (arXiv 2511.04808), beside those of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..describe.description import NO_VARIATION
from ..describe.families import FAMILIES
from ..records.columns import BASIN_KEYS
from ..records.reading import Run, own_basins
from .power_law import fit_power_law


@dataclass(frozen=True)
class _Line:
    """The line log mean r^P = a ln N + log k at cutoff 0.1, for networks on the data that they were trained on."""

    slope: float
    intercept: float
    per_parameter: float


_MNIST_LINE = _Line(-43164.1, 1121842.7, -0.1836)
_POWER_LAWS = {
    ("mnist-data-scaling", NO_VARIATION): _MNIST_LINE,
    ("mnist-sam", "AdamW"): _MNIST_LINE,
    ("mnist-sam", "SAM"): _Line(-34912.5, 1082751.3, -0.1485),
    ("mnist-cnn-data-scaling", NO_VARIATION): _Line(-35971.2, 1782245.1, -0.0853),
    ("cifar10-data-scaling", NO_VARIATION): _Line(-579467.8, 10590891.4, -0.3394),
    ("cifar10-cnn-data-scaling", NO_VARIATION): _Line(-298564.4, 6304641.9, -0.2339),
    ("svhn-data-scaling", NO_VARIATION): _Line(-693790.0, 10981720.3, -0.4064),
}
_SIZES = (60, 600, 2000, 6000, 20000, 60000)


# In these families the published results themselves do not show what the paper claims.
KNOWN_EXCEPTIONS = {
    "swiss-roll": "In the published results, too, the minimum trained on a landscape is often the smallest there.",
    "modular-data-scaling": "In the published results, too, the order breaks at middle sizes.",
    "nanogpt-data-scaling": "In the published results, too, the order breaks at 50 windows.",
    "mnist-imbalance": "In the published results, too, the order breaks from balanced to imbalanced data.",
    "cifar10-poisoning": "In the published results, too, low doses of poison tie with clean data.",
}


@dataclass(frozen=True)
class _Basin:
    """The published number of one minimum on one landscape; those of single basins are all of seed 1."""

    family: str
    cutoff: float
    landscape_size: int
    model_size: int
    variant: str
    log_mean_power: float


def _by_size(family: str, landscape: int, values: dict[int, float]) -> list[_Basin]:
    return [_Basin(family, 0.1, landscape, size, NO_VARIATION, value) for size, value in values.items()]


_MNIST_60 = (922978.0, 892617.0, 843233.0, 788134.0, 767784.0, 725000.0)
_NO_FILTER_60 = (843076.0, 843067.0, 824791.0, 807310.0, 787937.0, 787799.0)
_BASINS = [
    *_by_size("mnist-data-scaling", 60, dict(zip(_SIZES, _MNIST_60, strict=True))),
    *_by_size("mnist-data-scaling", 20000, {20000: 678459.0, 60000: 652145.0}),
    *_by_size("mnist-no-filter", 60, dict(zip(_SIZES, _NO_FILTER_60, strict=True))),
    *_by_size(
        "mnist-poisoning", 6000, {6000: 746906.0, 6100: 678632.0, 6500: 597477.0, 7000: 534678.0, 8000: 462166.0}
    ),
    *_by_size("swiss-roll", 100, {800: 4301.621733589883, 200: 5932.342, 400: 4730.676, 100: 4802.680}),
    *(
        _Basin("grokking", 0.01, 2822, 2822, f"epoch {epoch}", value)
        for epoch, value in ((200, 123968.0), (400, 112931.0), (600, 101432.0), (1000, 88712.0), (3000, 74778.0))
    ),
    *(
        _Basin("mnist-batch-size", 0.005, 6000, 6000, f"batch {size}", value)
        for size, value in (
            (100, 652817.0),
            (200, 652839.0),
            (500, 677833.0),
            (1000, 626121.0),
            (3000, 625651.0),
            (6000, 597139.0),
        )
    ),
]


@dataclass(frozen=True)
class Comparison:
    """One published number beside ours.

    Attributes:
        what: what both measure.
        published, ours: the numbers, in nats.
        decimals: how many are worth showing.
    """

    what: str
    published: float
    ours: float
    decimals: int = 1

    @property
    def difference(self) -> float:
        """Our number less the published one, in nats."""
        return self.ours - self.published

    def texts(self) -> tuple[str, str, str]:
        """The published number, ours and their difference, as text."""
        return (
            f"{self.published:,.{self.decimals}f}",
            f"{self.ours:,.{self.decimals}f}",
            f"{self.difference:+,.{self.decimals}f}",
        )


def beside_published(run: Run) -> list[Comparison]:
    """The published numbers of this family that the run has a counterpart of, each beside ours.

    Where the network is not the published one, only slopes per parameter can be compared.
    """
    is_same = run.settings["network"] == _paper_settings(run)["network"]
    return [*(_basins_beside(run) if is_same else []), *_power_laws_beside(run, is_same)]


def deviations(run: Run) -> list[str]:
    """The parts of the published protocol that the run changes; none if only chance tells the two apart."""
    ours, paper = run.settings, _paper_settings(run)
    words = {
        "data": "data",
        "network": "network",
        "training": "training",
        "base": "size of the base",
        "num_directions": "number of directions",
        "scaling": "scaling",
    }
    changed = [words[key] for key in words if ours[key] != paper[key]]
    return changed if ours["method"] == "paper" else [*changed, "method (star, not the published grid and generators)"]


def _basins_beside(run: Run) -> list[Comparison]:
    ours = run.volumes.set_index(list(BASIN_KEYS))["log_mean_power"]
    found = []
    for basin in _BASINS:
        key = (1, basin.cutoff, basin.landscape_size, basin.model_size, basin.variant)
        if basin.family == run.settings["name"] and key in ours.index:
            which = f"trained on {basin.model_size:,}" if basin.variant == NO_VARIATION else basin.variant
            what = f"seed 1, cutoff {basin.cutoff:g}, landscape of {basin.landscape_size:,}, {which}"
            found.append(Comparison(what, basin.log_mean_power, float(ours[key])))
    return found


def _power_laws_beside(run: Run, is_same_network: bool) -> list[Comparison]:
    found = []
    own = own_basins(run.volumes[run.volumes["cutoff"] == 0.1])
    for (family, variant), published in _POWER_LAWS.items():
        law = fit_power_law(own[own["variant"] == variant]) if family == run.settings["name"] else None
        if law is None:
            continue
        which = "" if variant == NO_VARIATION else f", {variant}"
        if is_same_network:
            found += [
                Comparison(f"slope a of log mean r^P = a ln N + log k{which}", published.slope, law.slope),
                Comparison(f"intercept log k{which}", published.intercept, law.intercept),
            ]
        found.append(Comparison(f"slope per parameter a / P{which}", published.per_parameter, law.per_parameter, 4))
    return found


def _paper_settings(run: Run) -> dict[str, Any]:
    settings: dict[str, Any] = _plain(FAMILIES[run.settings["name"]]["paper"].settings())
    return settings


def _plain(value: Any) -> Any:
    """The value with lists for tuples, as JSON returns it."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
