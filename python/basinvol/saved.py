"""Results from the files that their `save` wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .learning import LearningCoefficient
from .profile import LossProfile
from .storage.archive import from_bytes
from .trust.comparison import Comparison, PairComparison
from .trust.volume_estimate import TYPES

_TYPES = {
    **TYPES,
    **{kind.__name__: kind for kind in (Comparison, PairComparison, LossProfile, LearningCoefficient)},
}


def load(path: str | os.PathLike[str]) -> Any:
    """The result that `save` wrote: a VolumeEstimate, Radii, Curve, Comparison, LossProfile or LearningCoefficient.

    Nothing in the file is run, so that files of others may be loaded.

    >>> import basinvol as bv, tempfile, pathlib
    >>> case = bv.ground_truth.ball(10)
    >>> est = bv.estimate_volume(*case.task(), cutoff=case.cutoff, num_directions=50, scaling="none")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     est.save(pathlib.Path(folder, "ball.npz"))
    ...     bv.load(pathlib.Path(folder, "ball.npz")).log_volume == est.log_volume
    True

    Raises:
        ValueError: there is no such file, or it is not one that this version can read.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"`path` is {os.fspath(path)}, which cannot be read: {error.strerror or error}.") from error
    return from_bytes(content, _TYPES, f"`path` {os.fspath(path)}")
