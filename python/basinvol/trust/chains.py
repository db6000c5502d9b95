"""What chains looked like at the end: for diagnostics of other packages, such as ArviZ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..inputs.optional import optional
from ..storage.tables import Variable, dataset

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class ChainSamples:
    """Statistics of K chains over the last M moves, in which all of them sample the same distribution.

    Attributes:
        loss: losses. [M, K] float64
        distance: distances from the center, in scaled coordinates. [M, K] float64
        sizes: sizes |x_i| of some coordinates, evenly spaced among all that the chains have. [M, K, C] float64
        coordinates: the indices i of these. [C] int64
    """

    loss: Tensor
    distance: Tensor
    sizes: Tensor
    coordinates: Tensor

    def to_datatree(self) -> xr.DataTree:
        """The samples as a tree with the group "posterior", which `arviz_stats.summary` and the plots of ArviZ take.

        Raises:
            MissingPackage: xarray is not installed.
        """
        chain, draw = Variable(("chain",), range(self.loss.shape[1]), "1", "number of the chain"), range(len(self.loss))
        posterior = dataset(
            {
                "loss": Variable(("chain", "draw"), self.loss.T.numpy(), "loss", "loss of the chain"),
                "distance": Variable(("chain", "draw"), self.distance.T.numpy(), "scaled", "distance from the center"),
                "size": Variable(
                    ("chain", "draw", "coordinate"),
                    self.sizes.transpose(0, 1).numpy(),
                    "scaled",
                    "size of a coordinate, without its sign",
                ),
            },
            {
                "chain": chain,
                "draw": Variable(("draw",), draw, "1", "number of the move at the target"),
                "coordinate": Variable(("coordinate",), self.coordinates.numpy(), "1", "index of the coordinate"),
            },
            {},
        )
        tree: xr.DataTree = optional("xarray", "tables", "to_datatree()").DataTree.from_dict({"posterior": posterior})
        return tree
