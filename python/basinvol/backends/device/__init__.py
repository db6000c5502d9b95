"""Perceptrons on a GPU: the search and its state there, and the host only to launch kernels of the right size."""
