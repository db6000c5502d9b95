"""Captures work on a CUDA device as a graph."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator

import torch


def may_capture(device: torch.device) -> bool:
    """Whether work on this device is captured: tools that watch every launch do not see those of a graph."""
    return device.type == "cuda" and os.environ.get("BASINVOL_CUDA_GRAPHS") != "0"


class CudaCapture:
    """Captures work as CUDA graphs, which share one pool of memory because they are replayed one after the other.

    Args:
        device: where the work runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """Captures some work, and returns what replays it on the current stream.

        Args:
            work: what to capture; it is called several times.

        Raises:
            Exception: it waits for the device, or does something else that cannot be captured.
        """
        with torch.cuda.device(self._device):
            self._rehearse(work)
            current = torch.cuda.current_stream()
            try:
                graph = self._captured(work)
            except BaseException:
                self._recover(current)
                raise
        return graph.replay

    def _captured(self, work: Callable[[], object]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        return graph

    def _rehearse(self, work: Callable[[], None]) -> None:
        """Does the work on a stream of its own, so that what is made once exists, and nothing waits for the device."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        try:
            with torch.cuda.stream(stream):
                work()
                # A capture that fails leaves more behind than a refusal here.
                with _refusing_to_wait():
                    work()
        finally:
            current.wait_stream(stream)

    def _recover(self, current: torch.cuda.Stream) -> None:
        """Puts back what torch leaves behind after a capture that failed.

        The stream of the capture is still the current one, the allocator takes memory as if it went on, and the random
        generator refuses to draw numbers until another capture has ended well.
        """
        torch.cuda.set_stream(current)
        for name in ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool"):  # by versions of torch
            end = getattr(torch._C, name, None)
            if end is not None:
                with contextlib.suppress(RuntimeError):  # it was told
                    end(torch.cuda.current_device(), self._pool)
                break
        number = torch.zeros(1, device=self._device)
        self._pool = torch.cuda.graph_pool_handle()
        try:
            self._captured(number.zero_)
        except RuntimeError:  # what the first capture raised is what counts
            torch.cuda.set_stream(current)


@contextlib.contextmanager
def _refusing_to_wait() -> Iterator[None]:
    """Makes operations that wait for the device raise an error."""
    before = torch.cuda.get_sync_debug_mode()
    _set_sync_debug_mode("error")
    try:
        yield
    finally:
        _set_sync_debug_mode(before)


def _set_sync_debug_mode(mode: int | str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once that it may miss some
        torch.cuda.set_sync_debug_mode(mode)
