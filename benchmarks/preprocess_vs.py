"""Stage 1 of this checkout compared with another checkout: one clip each in turn, in two long-lived processes.

    python benchmarks/preprocess_vs.py OTHER_CHECKOUT [--pairs 9] [--films 1] [--people 2]
    python benchmarks/preprocess_vs.py --miniature       # this checkout twice, one pair: tests that the script runs

Two whole runs, minutes apart, depend more on other load of the machine than on the code. Here each pair is the same clip within
a second or two, by both checkouts, in an order that alternates between pairs: CPU seconds until the shard is renamed.
The videos are 1388 x 1038 with noise, as in preprocess.py; the subjects are synthetic, 640 x 480, with GSR, ECG and one EMG.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def serve(checkout: Path, folder: Path) -> None:
    """One line in, the index of a recording; one line out, the CPU seconds of its clip until the shard has its name."""
    sys.path.insert(0, str(checkout))
    import cv2

    from benchmarks import preprocess
    from preprocessing.datasets.registry import load
    from preprocessing.face.engine import FaceEngine

    cv2.setNumThreads(1)
    engine = FaceEngine()
    recordings = preprocess.as_recordings(sorted((folder / "films").glob("*.mp4")))
    recordings += list(load("biovid_a", folder / "cohort").recordings)
    print(len(recordings), flush=True)
    for line in sys.stdin:
        start = time.process_time()
        preprocess.to_shard(engine, [recordings[int(line)]], folder / f"{os.getpid()}.parquet")
        print(time.process_time() - start, flush=True)


class Side:
    """A checkout's process."""

    def __init__(self, checkout: Path, folder: Path):
        words = [sys.executable, __file__, "--serve", json.dumps([str(checkout), str(folder)]), "."]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True, cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)})  # fmt: skip
        self.recordings = int(self.process.stdout.readline())

    def seconds(self, index: int) -> float:
        print(index, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, nargs="?", metavar="OTHER_CHECKOUT")
    parser.add_argument("--pairs", type=int, default=9, help="repetitions of every clip")
    parser.add_argument("--films", type=int, default=1)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--serve", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        return serve(*map(Path, asked.serve))
    here = Path(__file__).parents[1]
    sys.path.insert(0, str(here))
    from benchmarks import preprocess

    small: dict = {}
    if asked.miniature:
        asked.other, asked.pairs, asked.people = here, 1, 1
        small = {"levels": ("BL1",), "size": (160, 120)}
        preprocess.FRAMES = preprocess.MINIATURE_FRAMES
    if asked.other is None:
        parser.error("give the folder OTHER_CHECKOUT")
    from preprocessing.synthetic import cohort

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "films").mkdir()
        for number in range(asked.films):
            preprocess.write_film(folder / "films" / f"{number}.mp4", number)
        cohort.generate(folder / "cohort", subjects=asked.people, clips_per_level=1, jobs=1, **small)
        ours, theirs = Side(here, folder), Side(asked.other.resolve(), folder)
        pairs: dict[str, list[tuple[float, float]]] = {}
        for pair in range(asked.pairs + 1):
            for index in range(ours.recordings):
                first, second = (ours, theirs) if (pair + index) % 2 else (theirs, ours)
                found = {first: first.seconds(index), second: second.seconds(index)}
                if pair:  # the first round warms
                    kind = "videos, 1388 x 1038" if index < asked.films else "synthetic subjects, 640 x 480, with signals"
                    pairs.setdefault(kind, []).append((found[ours], found[theirs]))
        for side in (ours, theirs):
            side.process.stdin.close()
            side.process.wait()
    for kind, both in pairs.items():
        mine, other = (statistics.median(column) for column in zip(*both, strict=True))
        ratio = statistics.median(a / b for a, b in both)
        print(f"{kind}: {len(both)} pairs, CPU seconds per clip {mine:.3f} here and {other:.3f} in the other checkout, "
              f"median of the pairs' ratios {ratio:.3f}")


if __name__ == "__main__":
    main()
