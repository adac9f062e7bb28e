"""A road of the tests: where it leads, its words, and what was left on it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import loso
from orchestrator.cohort.cohort import Cohort, load
from orchestrator.config.configuration import Config, compose, key_of_word
from orchestrator.errors import UserError
from orchestrator.files.storage import file_sha256, read_json
from orchestrator.stages.check_options import has_effect

PEOPLE, CLIPS_PER_LEVEL = 7, 2
# As small as every stage can be; one pretraining worker, so that a process without Ray gives the same bytes.
TINY = [
    "encoder=vit_micro", "encoder.image_size=32", "encoder.depth=1", "encoder.dim=16", "encoder.heads=2",
    "encoder.decoder_depth=1", "signal.length=32", "signal.emd=false", "embed.pool=temporal",
    "smae.dim=16", "smae.depth=1", "smae.heads=2", "smae.ff=16",
    "pretrain.workers=1", "pretrain.video.epochs=1", "pretrain.video.batch=8", "pretrain.video.warmup=0",
    "pretrain.signal.epochs=1", "train.max_epochs=2", "train.batch_size=16", "protocol.as_paper_epochs=2",
    "model.hpa.filters=4", "model.dcan.dim=16", "model.dcan.hidden=16", "resources.cpus=2"]
TIMES = ("wall_s",)


@dataclass
class Road:
    """A store, a run folder, and the words that lead to them. `main(...)` goes the road again with more words."""

    root: Path
    store: Path
    run: Path
    words: list[str] = field(default_factory=lambda: list(TINY))
    dataset: str = "biovid_a"
    first_folds: dict[str, tuple[str, int]] = field(default_factory=dict)  # the ledger as it was after max_folds=3

    def argv(self, *more: str) -> list[str]:
        words = [f"data.root={self.root}", f"store={self.store}", f"run.dir={self.run}", *self.words]
        return ["--dataset", self.dataset, *fitting(self.dataset, words, more), *more]

    def main(self, *more: str) -> int:
        return loso.main(self.argv(*more))

    def config(self, *more: str) -> Config:
        return compose(self.dataset, self.argv(*more)[2:])

    def cohort(self) -> Cohort:
        return load(self.config())

    def copy(self, where: Path, run: bool = True) -> "Road":
        """Its own store (and run) to spoil."""
        shutil.copytree(self.store, where / "store")
        if run:
            shutil.copytree(self.run, where / "run")
        return Road(self.root, where / "store", where / "run", list(self.words), self.dataset)

    def ledger(self) -> dict[str, dict]:
        return {path.name: read_json(path) for path in sorted((self.run / "ledger").glob("*.json"))}

    def summary(self) -> dict:
        return without_times(read_json(self.run / "summary.json"))


def fitting(dataset: str, words: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """Those of the words that `more` does not set again and that the model of them all reads: TINY suits every model.

    Words that are refused, as some tests mean them to be, are left as they are: the command refuses them.
    """
    more = [word for word in more if not word.startswith("--")]
    keys = [key_of_word(word) for word in (*words, *more)]
    words = [word for i, word in enumerate(words) if keys[i] not in keys[i + 1:]]
    try:
        config = compose(dataset, [*words, *more])
    except UserError:
        return words
    return [word for word in words if has_effect(config, word)]


def without_times(value: dict) -> dict:
    """A summary or ledger entry without what differs from one execution to the next."""
    return {name: part for name, part in value.items() if name not in (*TIMES, "checksum", "peak_memory_mb")}


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """relative path -> (sha256, modification time in ns) of every file but locks."""
    return {str(p.relative_to(folder)): (file_sha256(p), p.stat().st_mtime_ns)
            for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}


def hashes(folder: Path) -> dict[str, str]:
    return {name: digest for name, (digest, _) in snapshot(folder).items()}
