"""A Ray cluster of three machines on this one: what Ray's own tests use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest


def started(start: Callable[[], Any]) -> Any:
    """What Ray starts. It gives up after 30 seconds, which a machine that is busy with other things may take."""
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


class Machines:
    """A head without CPUs of its own, where the driver and the object store of the driver are, and workers' machines.

    Args:
        cluster: Ray's.
    """

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        """Where drivers connect."""
        found: str = self.cluster.address
        return found

    def add(self, num_cpus: int = 1, **settings: Any) -> Any:
        """Starts a machine."""
        self.nodes.append(started(lambda: self.cluster.add_node(num_cpus=num_cpus, **settings)))
        return self.nodes[-1]

    def kill(self, node: Any) -> None:
        """Ends a machine at once."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """A running cluster of three machines with one CPU each, and a head."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Without work of its own the head cannot lose any.
    cluster = started(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}))
    found = Machines(cluster)
    for _ in range(3):
        found.add()
    cluster.wait_for_nodes()
    yield found
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def executor(machines: Machines) -> Iterator[Any]:
    """An executor on that cluster, with a worker on each of its machines."""
    pytest.importorskip("cloudpickle")
    from basinvol.executors import open_executor, spread

    def node(seconds: float, item: int) -> str:
        import ray

        time.sleep(seconds)
        found: str = ray.get_runtime_context().get_node_id()
        return found

    with open_executor(f"ray:{machines.address}") as made:
        answered: set[str] = set()
        while len(answered) < 3:  # or the first worker that is up would do all the work of a test
            answered |= {name for _, name in spread(node, 0.5, range(6), made)}
        yield made
