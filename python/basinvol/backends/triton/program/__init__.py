"""Networks that are programs, with the kernels of basin_triton."""
