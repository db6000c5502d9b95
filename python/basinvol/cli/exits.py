"""How a command ends: exit codes, and what an interrupt leaves behind."""

from __future__ import annotations

FAILED = 1  # a worker of an executor
BAD_INPUT = 2
FULL_DISK = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# Said after an interrupt: what is kept, and how to go on.
NOTHING_KEPT = "no result is kept; repeat the command to start again."
RUN_KEPT = "finished models and blocks of directions are kept; repeat the same command to continue."
LINES_KEPT = "finished lines are kept; repeat the same command to continue."
RECORDS_KEPT = "the records of the run are unchanged; repeat the command to write its report."
