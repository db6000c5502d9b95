"""Perceptrons and programs on a CUDA device with the kernels of basin_triton."""

from .backend import TritonBackend

__all__ = ["TritonBackend"]
