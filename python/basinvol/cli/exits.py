"""How a command ends: exit codes, and what an interrupt leaves behind."""

from __future__ import annotations

# 0 is success, and 1 a fault of basinvol itself, with a traceback; docs/cli.md lists all of them.
FAILED = 1  # a worker of an executor failed, in one sentence
BAD_INPUT = 2
FULL_DISK = 3
PROBLEMS = 4  # doctor found what stands in the way of a measurement
ENDED_EARLY = 5  # a search failed, or the budget is spent
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# Said after an interrupt: what is kept, and how to go on.
NOTHING_KEPT = "no result is kept; repeat the command to start again."
CALL_KEPT = "solved rays are kept; repeat the same command to continue."
RUN_KEPT = "finished models and blocks of directions are kept; repeat the same command to continue."
LINES_KEPT = "finished lines are kept; repeat the same command to continue."
RECORDS_KEPT = "the records of the run are unchanged; repeat the command to write its report."
