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


COMMANDS = sorted(path.stem for path in (ROOT / "orchestrator").glob("*.py") if '__name__ == "__main__"' in path.read_text())
HEAVY = ("torch", "ray", "pyarrow", "hydra", "omegaconf", "pydantic", "numpy", "scipy", "sklearn", "pandas", "cv2", "rich")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    done = run(f"import sys\nfrom orchestrator import cli, {command}\ncode = cli.run({command}.main, ['--help'])\n"
               f"print('loaded', *sorted(set(sys.modules) & set({HEAVY})), code)")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout and done.stdout.splitlines()[-1] == "loaded 0"


def test_a_folds_worker_fits_a_forest_without_torch():
    code = ("import sys\nimport numpy as np\nfrom models import build\n"
            "x, y = np.random.default_rng(0).normal(size=(8, 20, 2)), np.arange(8) % 2\n"
            "build('random_forest', n_classes=2, trees=2).fit({'signals': x}, y, np.arange(8))\n"
            "print(*sorted(set(sys.modules) & {'torch', 'timm', 'ray'}))")
    done = run(code)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_options_are_read_and_shards_planned_without_what_decomposes_and_draws():
    done = run("import sys, preprocessing.clip, orchestrator.stages.evaluate_run\n"
               "print(*sorted(set(sys.modules) & {'PyEMD', 'matplotlib', 'scipy.signal', 'scipy.stats', 'torch', 'ray'}))")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_forests_options_are_checked_without_importing_what_builds_models():
    done = run("import sys\nfrom orchestrator.config.configuration import compose\n"
               "from orchestrator.stages import check_options\nwords = ['model=random_forest', 'model.trees=10']\n"
               "check_options.check(compose('watch', words), words, 'loso')\n"
               "print(*sorted(set(sys.modules) & {'sklearn', 'torch', 'scipy.stats'}))")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
