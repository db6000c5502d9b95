"""basinvol's GPU kernels in Triton: a leaf package that needs torch and triton, and nothing of ours.

One operation per file, the kernel first, then its checked wrapper.
"""

from .fused_mlp import MAX_WIDTH, LayerTable, fused_mlp
from .linear import First, linear
from .loss_head import BLOCK_ROWS, MAX_OUTPUTS, RowBlocks, loss_head
from .materialize import materialize, square_norms
from .normals import normals
from .reduce import reduce
from .search_step import search_step

__all__ = [
    "BLOCK_ROWS",
    "MAX_OUTPUTS",
    "MAX_WIDTH",
    "First",
    "LayerTable",
    "RowBlocks",
    "fused_mlp",
    "linear",
    "loss_head",
    "materialize",
    "normals",
    "reduce",
    "search_step",
    "square_norms",
]
