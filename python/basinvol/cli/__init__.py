"""The command line of the package, `basinvol`."""

from .commands import main

__all__ = ["main"]
