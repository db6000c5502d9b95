"""basinvol's GPU kernels in Triton: a leaf package that needs torch and triton, and nothing of ours.

One operation per file, the kernel first, then its checked wrapper.
"""

from .normals import normals

__all__ = ["normals"]
