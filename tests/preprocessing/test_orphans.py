"""The workers of a pool end when their parent process is killed."""

import os
import select
import signal
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium
POOLS = {
    "idle": "pool.submit(os.getpid).result()",
    "working": "[pool.submit(time.sleep, 600) for _ in range(8)]",
    "spinning": "[pool.submit(exec, 'while True: pass') for _ in range(2)]",
}
SCRIPT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from preprocessing.synthetic import tree

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), tree._start_worker)
    print(*[pool.submit(os.getpid).result() for _ in range(4)], flush=True)
    {work}
    print(*pool._processes, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("work", POOLS)
def test_killed_alone(work, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(work=POOLS[work]))
    # the workers hold the write end of this pipe as long as they live: reading to its end is waiting for all of them
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout.readline() and (pids := process.stdout.readline().split())
    assert pids
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended, _, _ = select.select([process.stdout], [], [], 50)
    for pid in () if ended else map(int, pids):
        os.kill(pid, signal.SIGKILL)
    assert ended and process.stdout.read() == "", "they outlived their parent"
    process.stdout.close()


def test_without_a_parent_of_multiprocessing_nothing_happens():
    from preprocessing.orphans import end_with_parent

    end_with_parent()
