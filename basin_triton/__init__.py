"""The GPU kernels of basinvol in Triton. This leaf package imports torch and triton, and nothing of basinvol.

Each file holds one operation: first the kernel, then a wrapper that checks the arguments and launches it.

Letters in shapes: A active directions, S slots (directions in flight), R rows of the data, B blocks of rows, L levels
(nested prefixes of the data), K inputs of a layer, H units of the first layer, J outputs of a layer, C classes. The
search step uses D rays and T targets, a target being one level and one cutoff.
"""

from .fused_mlp import MAX_WIDTH, LayerTable, fused_mlp
from .halves import Halves, has_descriptors, split
from .last_layers import SplitLayer, last_layers
from .linear import First, linear
from .loss_head import BLOCK_ROWS, MAX_OUTPUTS, RowBlocks, loss_head
from .materialize import Pieces, materialize, square_norms
from .materialize_halves import Largest, materialize_halves
from .normals import normals
from .reduce import reduce
from .search_step import search_step
from .shared_linear import shared_linear

__all__ = [
    "BLOCK_ROWS",
    "MAX_OUTPUTS",
    "MAX_WIDTH",
    "First",
    "Halves",
    "Largest",
    "LayerTable",
    "Pieces",
    "RowBlocks",
    "SplitLayer",
    "fused_mlp",
    "has_descriptors",
    "last_layers",
    "linear",
    "loss_head",
    "materialize",
    "materialize_halves",
    "normals",
    "reduce",
    "search_step",
    "shared_linear",
    "split",
    "square_norms",
]
