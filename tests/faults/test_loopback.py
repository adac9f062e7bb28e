"""A Ray started by a command listens on loopback only; read from /proc/net while everything runs."""

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.processes import PATIENCE

pytestmark = [pytest.mark.ci, pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")]

SCRIPT = """
import sys
from orchestrator.runtime import ray_session
from orchestrator.config.configuration import compose
from tests.faults.test_loopback import listening
config = compose("watch", ["resources.cpus=2", "resources.dashboard=" + sys.argv[1]])
ray_session.start(config)
import ray

@ray.remote(num_cpus=0)
def work():
    return 1

ray.get(work.remote())
for place in listening(): print(*place)
if sys.argv[2:]:
    ray_session.quiet()
    from ray.train import RunConfig, ScalingConfig

    def train(settings):
        import torch, torch.distributed as dist
        value = torch.ones(1)
        dist.all_reduce(value)
        assert value.item() == dist.get_world_size() == 2 and dist.get_backend() == "gloo"
        for place in settings["listening"](): print_to(settings["out"], place)
        dist.barrier()

    def print_to(out, place):
        with open(out, "a") as handle:
            handle.write(" ".join(map(str, place)) + "\\n")

    ray_session.trainer()(train, train_loop_config={"listening": listening, "out": sys.argv[2] + "/seen"},
                      scaling_config=ScalingConfig(num_workers=2),
                      run_config=RunConfig(name="x", storage_path=sys.argv[2])).fit()
    print(open(sys.argv[2] + "/seen").read())
ray_session.stop()
"""


def listening() -> list[tuple[str, int, str]]:
    """(address, port, command) of every listening TCP socket of processes that carry this test's mark."""
    mark = b"DUALPAIN_TEST_MARK=" + os.environ["DUALPAIN_TEST_MARK"].encode()
    owner = {}
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark in (process / "environ").read_bytes():
                for handle in (process / "fd").iterdir():
                    link = os.readlink(handle)
                    if link.startswith("socket:["):
                        command = (process / "cmdline").read_bytes().replace(b"\0", b" ")[:40]
                        owner[link[8:-1]] = command.decode(errors="replace")
        except OSError:
            continue
    found = []
    for family in ("tcp", "tcp6"):
        path = Path("/proc/net") / family
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            words = line.split()
            if words[3] == "0A" and words[9] in owner:
                raw, _, port = words[1].partition(":")
                packed = b"".join(struct.pack("<I", int(raw[i:i + 8], 16)) for i in range(0, len(raw), 8))
                name = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
                found.append((name.removeprefix("::ffff:"), int(port, 16), owner[words[9]].replace(" ", "_")))
    return found


@pytest.mark.parametrize(("dashboard", "training"), [("false", True), ("true", False)])
def test_nothing_listens_outside_of_loopback(tmp_path, dashboard, training):
    unset = ("RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run([sys.executable, "-c", SCRIPT, dashboard, *([str(tmp_path)] if training else [])], cwd=ROOT,
                          env={**env, "DUALPAIN_TEST_MARK": tmp_path.name, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, timeout=PATIENCE * 170)
    assert done.returncode == 0, done.stderr[-3000:]
    places = [line.split() for line in done.stdout.splitlines() if len(line.split()) == 3]
    assert len({port for _, port, _ in places}) >= 4, done.stdout  # GCS, raylet, workers, agents
    outside = [place for place in places if place[0] != "::1" and not place[0].startswith("127.")]
    assert not outside, outside
