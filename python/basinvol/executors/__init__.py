"""Pure calls on any `concurrent.futures.Executor`: processes of this machine, Ray, Slurm, or one of the user's own."""

from .calls import Placed, TaskFailed, num_workers, spread
from .specification import open_executor, opened

__all__ = ["Placed", "TaskFailed", "num_workers", "open_executor", "opened", "spread"]
