"""A cluster whose second node, on which the workers train, is killed and replaced: `python -m tests.faults.raylet TREE STORE`.

Run as a process of its own: Ray's test cluster lives in the process that made it.
"""

import os
import sys
import threading
import time
from pathlib import Path

from tests.faults.processes import checkpoints, pretraining


def main(tree: Path, store: Path) -> int:
    os.environ.update(DUALPAIN_TEST_STEP_PAUSE_S="0.5")
    from ray.cluster_utils import Cluster

    from orchestrator import cli, pretrain

    # loopback by another name: who joins 127.0.0.1 is sent to the machine's own address, where nobody listens
    address = {"node_ip_address": "127.0.0.2"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **address})
    os.environ["RAY_ADDRESS"] = cluster.address
    doomed = cluster.add_node(num_cpus=2, **address)
    lost = threading.Event()

    def kill() -> None:
        while len(checkpoints(store)) < 2:
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)
        lost.set()
        cluster.add_node(num_cpus=2, **address)

    threading.Thread(target=kill, daemon=True).start()
    try:
        code = cli.run(pretrain.main, pretraining(tree, store)[1:])
        assert lost.is_set(), "the training ended before the node did"
        return code
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
