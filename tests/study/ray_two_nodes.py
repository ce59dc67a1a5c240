"""A Ray cluster of two nodes on this machine, as a process: it prints its address, and kills the second node when told.

It is a process of its own because Ray warns, prints and handles signals wherever it is imported. It ends, and the
cluster with it, when its standard input closes.
"""

from __future__ import annotations

import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

OBJECT_STORE = 80 * 2**20  # bytes, about the least that Ray takes


def main() -> None:
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": OBJECT_STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    second = cluster.add_node(**small)
    try:
        print(cluster.address, flush=True)
        for _ in sys.stdin:
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
