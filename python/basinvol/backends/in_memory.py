"""Whether engines that pack the data into arrays of their own can have them."""

from __future__ import annotations

from ..inputs.memory import physical_memory
from ..model.landscape import Landscape

_SHARE = 2  # of the machine's memory the data may take one part, and the engine's copy of them takes another


def unsupported_size(landscape: Landscape) -> str | None:
    """The reason why a copy of the data does not fit into memory beside them, or None.

    What lies on a device has been copied there already, and is not this machine's memory.
    """
    memory = physical_memory()
    if landscape.device.type != "cpu" or landscape.num_bytes <= memory // _SHARE:
        return None
    return (
        f"it keeps a copy of the data, which take {landscape.num_bytes / 2**30:.3g} GiB, more than half of the "
        f"{memory / 2**30:.3g} GiB of memory that this machine has"
    )
