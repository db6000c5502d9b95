"""Benchmarks of basinvol against common ways to find radii in PyTorch; run them with `python -m benchmarks`."""
