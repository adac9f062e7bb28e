"""Who reads clips needs nothing that records them: training, embedding and folds run where PyAV, LiteRT and PyEMD are not."""

import subprocess
import sys

import pytest

from tests.helpers.places import ROOT

pytestmark = pytest.mark.medium
RECORDERS = ("av", "ai_edge_litert", "PyEMD")
WORKERS = {
    "fold": "orchestrator.evaluation.fold_data, orchestrator.evaluation.fit_fold, orchestrator.evaluation.scheduler",
    "training": "orchestrator.pretraining.loop, orchestrator.pretraining.encoder_maker",
    "embedding": "orchestrator.pretraining.embedding",
    "clips": "preprocessing.shard, orchestrator.stores.clip_store"}


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=55)


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_starts_where_the_recorders_are_hidden(worker):
    hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in RECORDERS)
    done = run(f"import sys\n{hidden}import {WORKERS[worker]}")
    assert done.returncode == 0, done.stderr


def test_hiding_hides(tmp_path):
    done = run("import sys\nsys.modules['av'] = None\nimport preprocessing.video.video, preprocessing.face.engine\n"
               "from preprocessing.video.video import Video\nimport av")
    assert done.returncode == 1 and "av" in done.stderr


def test_a_folds_worker_imports_neither_the_recorders_nor_timm_nor_torch_before_its_model_needs_them():
    done = run(f"import sys, {WORKERS['fold']}\nprint(*sorted(set(sys.modules) & {{'av', 'ai_edge_litert', 'PyEMD', 'timm', "
               "'torch', 'scipy', 'ray'}))")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_network_that_reads_signals_needs_no_timm():
    code = ("import sys, torch\nfrom models import build\nmodel = build('signal_small', n_classes=2, token_dim=None, "
            "token_grid=(1, 1, 1), n_channels=6, signal_length=200)\nprint('timm' in sys.modules)")
    done = run(code)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
