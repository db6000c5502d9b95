"""Any module on any torch device, its parameters perturbed in place and one direction to a thread."""

from .backend import TorchBackend

__all__ = ["TorchBackend"]
