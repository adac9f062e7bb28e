"""A worker of Ray Data that always dies: a few attempts, then one sentence and exit code 2."""


import pytest

from orchestrator.runtime.ray_session import RESTARTS
from tests.helpers.places import ROOT
from tests.helpers.processes import LEAN, ended, start

pytestmark = pytest.mark.ci
DYING = """
import os, signal, sys
from orchestrator import cli, preprocess
from orchestrator.stages import make_clips

class Dying(make_clips.ShardWorker):
    def __call__(self, row):
        with open({deaths!r}, "a") as handle:
            handle.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

mapped = make_clips.mapped
make_clips.mapped = lambda config, jobs: mapped(config, jobs, Dying)
sys.exit(cli.run(preprocess.main))
"""


def test_a_worker_that_always_dies_ends_the_command(tmp_path):
    log, deaths = tmp_path / "log", tmp_path / "deaths"
    (tmp_path / "dying.py").write_text(DYING.format(deaths=str(deaths)))
    process = start(["dying", "--dataset", "watch", *LEAN, f"store={tmp_path / 'store'}"], log, PYTHONPATH=f"{tmp_path}:{ROOT}")
    ended(process, log, 2)
    said = log.read_text()
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: A worker process ended repeatedly") and "run the same command again" in last
    assert "Traceback" not in said and "defect" not in said
    tries = 1 + max(RESTARTS.values())
    assert 2 <= len(deaths.read_text()) <= tries * 2, "of one actor, and of the tasks that wait with it"
