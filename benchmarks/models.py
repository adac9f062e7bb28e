"""Stage 2: eRPE attention, fused and naive; the ConvTran embedding, in chunks and plain. Without Ray.
Stage 1 (ViT-S steps and token extraction, compared with the machine's matmul) is benchmarks/mae_models.py.

    python benchmarks/models.py [--threads 1] [--rounds 5] [--cpu-time] [--miniature] [--out benchmarks/models.md]

Both implementations have the same weights and inputs; their runs alternate, so that a slow moment of the machine
affects both, and medians are compared. Peak memory is what one forward and backward pass adds to a new process (its
high-water mark, without weights and input). --cpu-time counts this process's CPU seconds instead of wall
seconds: for one thread on a machine with other load. Targets: eRPE ratio >= 3; embedding time ratio <= 1, memory
ratio <= 1/8. --miniature: to test that the script runs.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT)  # this folder's own models.py must not hide the package

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from benchmarks.machine import cpu_name  # noqa: E402
from models.hpa.block import HPA  # noqa: E402
from models.hpa.convtran_embed import ConvTranEmbedding  # noqa: E402
from models.hpa.erpe import ERPEAttention  # noqa: E402

WIDTH, HEADS, TOKENS, CHANNELS = 16, 8, 1568, 384
LENGTHS = (392, 784, 1568, 3136)  # of the table of memory


def attention(impl: str, n_tokens: int = TOKENS) -> tuple[nn.Module, Tensor]:
    module = ERPEAttention(WIDTH, n_tokens, HEADS, impl)  # type: ignore[arg-type]
    nn.init.normal_(module.relative_bias, std=0.1)
    return module, torch.randn(1, n_tokens, WIDTH, requires_grad=True)


def embedding(impl: str, learn_input: bool = False) -> tuple[nn.Module, Tensor]:
    return ConvTranEmbedding(CHANNELS, WIDTH, impl=impl), torch.randn(2, TOKENS, CHANNELS, requires_grad=learn_input)


def block(impl: str) -> tuple[nn.Module, Tensor]:
    return HPA(CHANNELS, TOKENS, impl=impl), torch.randn(2, TOKENS, CHANNELS)  # type: ignore[arg-type]


CASES: dict[str, Callable[[str], tuple[nn.Module, Tensor]]] = {
    "eRPE attention, 1 x 1,568 tokens, 8 heads": attention,
    "ConvTran embedding, 2 x 1,568 x 384, frozen tokens": embedding,
    "ConvTran embedding, the same, with gradient for the tokens": lambda impl: embedding(impl, learn_input=True),
    "whole HPA block, 2 x 1,568 x 384": block,
}


def step(module: nn.Module, x: Tensor, clock: Callable[[], float]) -> tuple[float, float]:
    """Seconds of one forward and of one backward pass."""
    began = clock()
    y = module(x)
    middle = clock()
    y.square().sum().backward()
    return middle - began, clock() - middle


def compare(name: str, rounds: int, clock: Callable[[], float]) -> tuple[dict[str, tuple[float, ...]], float]:
    """Median (forward, backward, both) seconds of each twin, and the largest relative difference of their outputs."""
    torch.manual_seed(0)
    naive, x = CASES[name]("naive")
    fused, _ = CASES[name]("fused")
    fused.load_state_dict(naive.state_dict())
    times: dict[str, list[tuple[float, float]]] = {"naive": [], "fused": []}
    for i in range(rounds + 1):
        for impl, module in (("naive", naive), ("fused", fused)):
            torch.manual_seed(i)
            seconds = step(module, x, clock)
            if i:  # the first round warms up
                times[impl].append(seconds)
    medians = {impl: tuple(statistics.median(s) for s in zip(*found, strict=True)) for impl, found in times.items()}
    both = {impl: statistics.median(a + b for a, b in found) for impl, found in times.items()}
    with torch.no_grad():
        y_naive, y_fused = naive.eval()(x), fused.eval()(x)
    gap = float((y_naive - y_fused).abs().max() / y_naive.abs().max())
    return {impl: (*medians[impl], both[impl]) for impl in medians}, gap


def peak_mb(name: str, impl: str) -> float:
    """What one step adds to a fresh process at its highest, in MB."""
    command = [sys.executable, str(Path(__file__)), "--peak", name, impl]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(name: str, impl: str) -> None:
    if name.startswith("tokens="):
        module, x = attention(impl, int(name.removeprefix("tokens=")))
    else:
        module, x = CASES[name](impl)
    Path("/proc/self/clear_refs").write_text("5")  # forget the high-water mark of the imports
    before = status_mb("VmRSS")
    step(module, x, time.perf_counter)
    print(status_mb("VmHWM") - before)


def status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def report(names: Sequence[str], lengths: Sequence[int], rounds: int, clock: Callable[[], float]) -> list[str]:
    rows = [
        "| forward + backward | naive s | fused s | naive / fused | naive MB | fused MB | fused / naive | outputs differ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        seconds, gap = compare(name, rounds, clock)
        memory = {impl: peak_mb(name, impl) for impl in ("naive", "fused")}
        parts = {impl: f"{s[2]:.3f} ({s[0]:.3f} + {s[1]:.3f})" for impl, s in seconds.items()}
        rows.append(
            f"| {name} | {parts['naive']} | {parts['fused']} | {seconds['naive'][2] / seconds['fused'][2]:.2f} "
            f"| {memory['naive']:.0f} | {memory['fused']:.0f} | 1/{memory['naive'] / memory['fused']:.1f} | {gap:.0e} |"
        )
    rows += ["", "Peak memory of one eRPE step, MB:", "", "| tokens | naive | fused |", "|---|---|---|"]
    for n_tokens in lengths:
        naive, fused = (peak_mb(f"tokens={n_tokens}", impl) for impl in ("naive", "fused"))
        rows.append(f"| {n_tokens:,} | {naive:.0f} | {fused:.1f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "IMPL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print_peak(*options.peak)
        return
    if options.miniature:
        options.rounds = 1
    size = (list(CASES)[:1], LENGTHS[:1]) if options.miniature else (list(CASES), LENGTHS)
    rows = report(*size, options.rounds, time.process_time if options.cpu_time else time.perf_counter)
    print("\n".join(rows))
    if options.out:
        command = " ".join(["python benchmarks/models.py", *sys.argv[1:]])
        kind = "CPU seconds of the process" if options.cpu_time else "wall seconds"
        machine = f"{cpu_name()}, {options.threads} thread(s), torch {torch.__version__}, {kind}, {options.rounds} rounds"
        head = [
            "# Stage 2: eRPE attention and the ConvTran embedding compared with naive implementations", "",
            f"{datetime.now(UTC):%Y-%m-%d} · {machine} · no accelerator", "", f"    {command}", "",
            "Seconds are medians of interleaved runs, in brackets forward + backward. \"Frozen tokens\" is what stage 2",
            "trains on; memory is the peak that one step adds to a new process. Targets: eRPE naive / fused >= 3;",
            "embedding naive / fused >= 1 and 1/8 of the memory. The video MAE and token extraction, bf16 and torch.compile:",
            "[mae_models.md](mae_models.md), written by `python benchmarks/mae_models.py`.", "",
        ]
        options.out.write_text("\n".join([*head, *rows, ""]))


if __name__ == "__main__":
    main()
