"""Measures how large the basin is that a network fell into.

est = basinvol.estimate_volume(model, loss_fn, (inputs, targets), cutoff=0.1)
print(est)      # verdict first, then the number, its terms, its error
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

# The search is for the file alone: loading it before torch would bring a second OpenMP runtime into the process.
if find_spec(f"{__name__}._native") is None:
    raise ImportError(
        "basinvol's C++ extension is not built: run `pip install .` in the checkout (it needs a C++17 compiler, for "
        "example g++), and start Python where this source folder is not on the path."
    )

try:
    __version__ = version("basinvol")
except PackageNotFoundError:  # copied into a path without its metadata
    __version__ = "unknown"

if TYPE_CHECKING:
    from . import callbacks, ground_truth
    from .backends import BackendUnavailable
    from .calibration import calibrate, calibration_by_method, calibration_summary, calibration_table
    from .comparing import compare
    from .estimate import estimate_volume
    from .estimators import CenterOutsideError
    from .inputs.row_loss import PerExampleLoss
    from .learning import LearningCoefficient, learning_coefficient
    from .model.deadline import BudgetSpent
    from .model.directions import Directions
    from .model.landscape import Landscape
    from .model.parameters import ParameterSpace
    from .model.tensor_parallel import TensorParallel
    from .profile import LossProfile, loss_profile
    from .rays import RaySearchFailed, RaySolver, find_radii
    from .saved import load
    from .search.radii import Radii, Status
    from .trust.comparison import Comparison
    from .trust.curve import Curve
    from .trust.diagnostics import Diagnostics, Verdict
    from .trust.measures import Measure
    from .trust.result import CensoredError, Volume
    from .trust.volume_estimate import VolumeEstimate

# Imported on first use: records, figures and reports are read without torch.
_HOMES = {
    "BackendUnavailable": "backends",
    "BudgetSpent": "model.deadline",
    "CensoredError": "trust.result",
    "CenterOutsideError": "estimators",
    "Curve": "trust.curve",
    "Diagnostics": "trust.diagnostics",
    "Directions": "model.directions",
    "Landscape": "model.landscape",
    "LearningCoefficient": "learning",
    "LossProfile": "profile",
    "Measure": "trust.measures",
    "ParameterSpace": "model.parameters",
    "PerExampleLoss": "inputs.row_loss",
    "Radii": "search.radii",
    "RaySearchFailed": "rays",
    "RaySolver": "rays",
    "Status": "search.radii",
    "TensorParallel": "model.tensor_parallel",
    "Verdict": "trust.diagnostics",
    "Volume": "trust.result",
    "VolumeEstimate": "trust.volume_estimate",
    "calibrate": "calibration",
    "calibration_by_method": "calibration",
    "calibration_summary": "calibration",
    "calibration_table": "calibration",
    "compare": "comparing",
    "Comparison": "trust.comparison",
    "estimate_volume": "estimate",
    "find_radii": "rays",
    "learning_coefficient": "learning",
    "load": "saved",
    "loss_profile": "profile",
}
_MODULES = ("callbacks", "ground_truth")

__all__ = [
    "BackendUnavailable",
    "BudgetSpent",
    "CensoredError",
    "CenterOutsideError",
    "Comparison",
    "Curve",
    "Diagnostics",
    "Directions",
    "Landscape",
    "LearningCoefficient",
    "LossProfile",
    "Measure",
    "ParameterSpace",
    "PerExampleLoss",
    "Radii",
    "RaySearchFailed",
    "RaySolver",
    "Status",
    "TensorParallel",
    "Verdict",
    "Volume",
    "VolumeEstimate",
    "__version__",
    "calibrate",
    "calibration_by_method",
    "calibration_summary",
    "calibration_table",
    "callbacks",
    "compare",
    "estimate_volume",
    "find_radii",
    "ground_truth",
    "learning_coefficient",
    "load",
    "loss_profile",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
