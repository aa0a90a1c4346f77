"""A Ray cluster of three nodes with one CPU each on this machine, all of it on 127.0.0.1."""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import psutil

LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GLOO_SOCKET_IFNAME": next(name for _, name in socket.if_nameindex() if name.startswith("lo")),
    "RAY_health_check_period_ms": "500",  # it takes five of them to find that a node is gone
}
SIZE = 80 << 20  # bytes of a node's object store, the least that Ray takes


class Nodes:
    """A cluster whose head only keeps the books, and nodes that work."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self.head = self.add(num_cpus=0, include_dashboard=False)
        self.workers = [self.add(num_cpus=1), self.add(num_cpus=1)]

    def add(self, **options: Any) -> Any:
        return self.cluster.add_node(
            node_ip_address="127.0.0.1", object_store_memory=SIZE, wait=False, **options
        )

    @property
    def address(self) -> str:
        return self.cluster.address

    def kill(self) -> None:
        """Kill a node that works, without a word, and all its processes."""
        self.cluster.remove_node(self.workers.pop(), allow_graceful=False)

    def kill_with(self, task: str) -> bool:
        """Kill the node on which a process does this task of Ray's; whether there is one."""
        for node in self.workers:
            if any(task in name for name in processes_of(node)):
                self.workers.remove(node)
                self.workers.append(node)
                self.kill()
                return True
        return False

    def refill(self) -> None:
        """Add nodes until two work."""
        while len(self.workers) < 2:
            self.workers.append(self.add(num_cpus=1))
        self.cluster.wait_for_nodes()


def processes_of(node: Any) -> Iterator[str]:
    """What the processes of a node call themselves; Ray's workers by the task that they do."""
    (raylet,) = node.all_processes["raylet"]
    for process in psutil.Process(raylet.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            yield " ".join(process.cmdline())


@contextlib.contextmanager
def start_nodes() -> Iterator[Nodes]:
    os.environ.update(LOCAL)
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # as LOCAL says, if ray was imported before
    nodes = Nodes()
    try:
        nodes.cluster.wait_for_nodes()
        yield nodes
    finally:
        import ray

        ray.shutdown()
        nodes.cluster.shutdown()
