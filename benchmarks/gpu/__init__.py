"""What is run on a machine with a CUDA device, one step at a time; `benchmarks/gpu_check.sh` puts the steps together.

Every measurement is one JSON line, written and flushed at once: a machine may be there for half an hour only.
"""
