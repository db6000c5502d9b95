"""Ctrl-C: a real SIGINT ends every command with one sentence on standard error and exit code 130.

`reproduce`, which keeps what it has done, is interrupted in tests/experiments/test_robust_runs.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

TASK = """
import pathlib, time, torch

def slow_loss(outputs, targets):
    if (count := len(list(pathlib.Path().glob("call*")))) < 3:  # the loss is being evaluated
        pathlib.Path(f"call{count}").touch()
    time.sleep(0.05)
    return torch.nn.functional.mse_loss(outputs, targets)

def make_task():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    x = torch.randn(20, 4)
    return model, slow_loss, (x, model(x).detach())
"""
# `calibrate` has losses of its own: its loop over the cases is made to wait.
PROGRAM = """
import os, pathlib, signal, sys, time
# Whoever runs the tests without a terminal may have them ignore Ctrl-C, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.chdir(folder)
for stream, name in ((1, "output"), (2, "errors")):
    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream)
import basinvol.calibration
from basinvol.cli import main

def calibrate(*_, **__):
    for count in range(3):
        pathlib.Path(f"call{count}").touch()
    for _ in range(1000):  # a signal that comes just before a sleep begins is seen after it
        time.sleep(0.1)

basinvol.calibration.calibrate = calibrate
sys.exit(main(arguments))
"""
SENTENCE = "basinvol: interrupted; no result is kept; repeat the command to start again.\n"


@pytest.mark.parametrize("command", ["estimate", "calibrate", "doctor", "profile"])
def test_an_interrupted_command_ends_with_one_sentence_and_exit_code_130(command: str, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    arguments = [command] if command == "calibrate" else [command, "task:make_task"]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["basinvol.experiments.run.sweep", "pytest", "torch._dynamo", "pandas"])
    settings = {"__name__": "__main__", "folder": str(tmp_path), "arguments": arguments}
    process = context.Process(target=exec, args=(PROGRAM, settings))
    process.start()
    assert process.pid is not None
    deadline = time.monotonic() + 60
    while not (tmp_path / "call2").exists():
        assert process.exitcode is None, (tmp_path / "errors").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    assert (tmp_path / "errors").read_text() == SENTENCE
    assert (tmp_path / "output").read_text() == ""
