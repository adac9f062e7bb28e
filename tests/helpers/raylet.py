"""A cluster whose second node, on which the workers train, is killed and replaced: `python -m tests.helpers.raylet TREE STORE`.

Run as a process of its own: Ray's test cluster lives in the process that made it, and its nodes are added by the main thread.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers.processes import checkpoints, pretraining


def main(tree: Path, store: Path) -> int:
    from ray.cluster_utils import Cluster

    # loopback by another name: who joins 127.0.0.1 is sent to the machine's own address, where nobody listens
    address = {"node_ip_address": "127.0.0.2"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **address})
    doomed = cluster.add_node(num_cpus=2, **address)
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "DUALPAIN_TEST_STEP_PAUSE_S": "0.5"}
    process = subprocess.Popen([sys.executable, "-m", *pretraining(tree, store)], env=environment)
    try:
        while len(checkpoints(store)) < 2:
            assert process.poll() is None, "the training ended before the node did"
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)
        cluster.add_node(num_cpus=2, **address)
        return process.wait()
    finally:
        process.kill()
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
