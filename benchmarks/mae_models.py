"""How efficiently the video MAE uses the machine: a training step and token extraction, without Ray.

    python benchmarks/mae_models.py [--threads 1] [--batch 4] [--rounds 3] [--miniature] [--out benchmarks/mae_models.md]

GFLOP/s divided by those of a large matmul of the same number type and thread count on this machine. The matmul is timed before
and after every single run because clock rates and other load change; medians of the ratios. FLOP = 2 per multiply-add,
backward = twice the forward, without recomputation and element-wise operations. The rows alternate. The naive implementations
have the same weights and use two clips per step (their N x N tensors are kept for the backward pass): the patch projection is
a 3D convolution over every token before masking, and attention is softmax(q k^T) v written out.

torch.compile runs in separate processes, alternating with the same step uncompiled, and stops after --compile-limit
seconds (0: left out); rows that are not finished by then say so. First every block is compiled separately (all blocks
of a width share one compilation), then the whole objective.
--cpu-time counts the process's CPU seconds instead of wall seconds: for one thread on a machine with other load.
--miniature: a small network, small images and no torch.compile, to test that the script runs.
On CUDA the same rows; the fraction of the bf16 matmul is then the MFU. Targets: 0.65 for the float32 step and extraction on
a CPU, an MFU of 0.45 on an accelerator.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import cpu_name  # noqa: E402
from models.mae.critic import Critic  # noqa: E402
from models.mae.masks import tube_mask  # noqa: E402
from models.mae.training import VideoMAEObjective, VideoMAERecipe, video_optimisers, video_step  # noqa: E402
from models.mae.video_mae import VideoMAE, take  # noqa: E402
from models.mae.vit import Attention  # noqa: E402

Run = Callable[[], object]
F32, BF16 = torch.float32, torch.bfloat16
COMPILED = {  # row -> (what runs, autocast, what is compiled)
    "MAE step, blocks compiled": ("step", F32, "blocks"),
    "token extraction, blocks compiled": ("extraction", F32, "blocks"),
    "MAE step, blocks compiled, bf16": ("step", BF16, "blocks"),
    "token extraction, blocks compiled, bf16": ("extraction", BF16, "blocks"),
    "MAE step, whole model compiled": ("step", F32, "whole"),
}


class NaiveAttention(Attention):
    """The twin: scores, softmax and product one after the other, an N x N tensor each."""

    def forward(self, x_BND: Tensor, *_) -> Tensor:  # type: ignore[override]
        q, k, v = self.heads(x_BND)
        out = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(x_BND.shape))


class NaiveVideoMAE(VideoMAE):
    """The twin: a 3D convolution over the whole clip, then the mask; naive attention."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        for module in self.modules():
            if isinstance(module, Attention):
                module.__class__ = NaiveAttention

    def _conv(self, pixels_BNP: Tensor) -> Tensor:
        t, h, w = self.grid
        p = self.patch
        video = pixels_BNP.view(-1, t, h, w, 3, self.tubelet, p, p).permute(0, 4, 1, 5, 2, 6, 3, 7)
        video = video.reshape(-1, 3, self.frames, self.image_size, self.image_size)
        kernel = self.embed.weight.view(self.dim, 3, self.tubelet, p, p)
        return F.conv3d(video, kernel, self.embed.bias, kernel.shape[2:]).flatten(2).transpose(1, 2) + self.positions

    def encode(self, video: Tensor) -> Tensor:
        return self._encode(self._conv(self.tubelets(video)))

    def _encode_visible(self, pixels_BNP: Tensor, visible_BV: Tensor) -> Tensor:
        return self._encode(take(self._conv(pixels_BNP), visible_BV))


def block_flop(n: int, dim: int) -> float:
    """One pre-norm block: qkv, projection and MLP, and the two attention products."""
    return 24 * n * dim**2 + 4 * n**2 * dim


def encode_flop(mae: VideoMAE, n: int) -> float:
    return 2 * n * mae.patch_values * mae.dim + len(mae.blocks) * block_flop(n, mae.dim)


def step_flop(mae: VideoMAE, n_visible: int) -> float:
    """Forward and backward of one clip. The pixels need no gradient."""
    assert mae.decoder is not None
    width, n_masked = len(mae.decoder.mask_token), mae.n_tokens - n_visible
    decoder: float = 2 * mae.dim * width * n_visible + 2 * n_masked * width * mae.patch_values
    decoder += len(mae.decoder.blocks) * block_flop(mae.n_tokens, width)
    return 3 * (encode_flop(mae, n_visible) + decoder) - 2 * n_visible * mae.patch_values * mae.dim


def critic_flop(critic: Critic, n_masked: int, batch: int) -> float:
    """Of one clip: the generator's score and its gradient, both scores of the critic and theirs, the penalty."""
    hidden, values = critic.hidden.weight.shape
    layer, gram = 2.0 * n_masked * values * hidden, 2.0 * n_masked * hidden**2
    return (2 + 4 + 1) * layer + 3 * gram + 3 * 2.0 * values * hidden**2 / batch


class Clock:
    """Seconds of a call, and the machine's matmul speed around it."""

    def __init__(self, device: torch.device, args: argparse.Namespace):
        self.device, cpu_time = device, args.cpu_time
        self.now = time.process_time if cpu_time else time.perf_counter
        self.size = 64 if args.miniature else 8192 if device.type == "cuda" else 2048
        self.a = {dtype: torch.randn(self.size, self.size, device=device).to(dtype) for dtype in (F32, BF16)}
        for dtype in self.a:
            self.matmul(dtype)

    def time(self, run: Run) -> float:
        self._wait()
        start = self.now()
        run()
        self._wait()
        return self.now() - start

    def matmul(self, dtype: torch.dtype = F32, repeats: int = 3) -> float:
        """GFLOP/s of a large product."""
        a = self.a[dtype]
        out = torch.empty_like(a)
        seconds = self.time(lambda: [torch.mm(a, a, out=out) for _ in range(repeats)])
        return 2 * self.size**3 * repeats / seconds / 1e9

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@dataclass
class Row:
    """One thing to run: gflop of one clip, clips a call, the number type of its matmuls; then what was measured."""

    name: str
    run: Run
    gflop: float
    batch: int
    dtype: torch.dtype = F32
    twin_of: str | None = None
    seconds: list[float] = field(default_factory=list)  # a clip
    ratios: list[float] = field(default_factory=list)

    def measure(self, clock: Clock) -> None:
        before = clock.matmul(self.dtype)
        seconds = clock.time(self.run)
        around = (before + clock.matmul(self.dtype)) / 2
        self.seconds.append(seconds / self.batch)
        self.ratios.append(self.gflop * self.batch / seconds / around)

    def cells(self, others: dict[str, "Row"]) -> list[str]:
        seconds = statistics.median(self.seconds)
        kind = "bf16" if self.dtype == BF16 else "float32"
        twin = ""
        if self.twin_of is not None:
            twin = f"{seconds / statistics.median(others[self.twin_of].seconds):.2f} times {self.twin_of}"
        share = f"{statistics.median(self.ratios):.2f} of {kind}"
        return [self.name, f"{seconds:.3f}", f"{self.gflop / seconds:.0f}", share, twin]


class Bench:
    """The model, its input and what runs on them."""

    def __init__(self, args: argparse.Namespace, device: torch.device):
        torch.manual_seed(0)
        self.device = device
        self.mae = VideoMAE(args.scale, image_size=args.image).to(device)
        self.critic = Critic(self.mae.patch_values, 2 * self.mae.dim).to(device)
        self.video = torch.rand(args.batch, 3, 16, args.image, args.image, device=device)
        self.visible = tube_mask(args.batch, self.mae.grid, 0.9).to(device)
        self.alpha = torch.rand(args.batch, 1, device=device)
        n_visible = int(self.visible[0].sum())
        self.step_gflop = step_flop(self.mae, n_visible) / 1e9
        self.clip_gflop = encode_flop(self.mae, self.mae.n_tokens) / 1e9
        self.critic_gflop = critic_flop(self.critic, self.mae.n_tokens - n_visible, args.batch) / 1e9

    def step(self, mae: VideoMAE, critic: Critic | None = None, dtype: torch.dtype = F32, whole=False, n=None) -> Run:
        objective = VideoMAEObjective(mae, critic)
        optimisers = video_optimisers(objective, VideoMAERecipe())
        called: nn.Module = torch.compile(objective) if whole else objective  # type: ignore[assignment]
        autocast = None if dtype == F32 else dtype
        return lambda: video_step(called, optimisers, self.video[:n], self.visible[:n], self.alpha[:n], autocast=autocast)

    def extraction(self, mae: VideoMAE, dtype: torch.dtype = F32, n=None) -> Run:
        def run() -> Tensor:
            with torch.no_grad(), nullcontext() if dtype == F32 else torch.autocast(self.device.type, dtype=dtype):
                return mae.encode(self.video[:n])

        return run


def rows(bench: Bench, scale: str, batch: int) -> list[Row]:
    twin = NaiveVideoMAE(scale=scale, image_size=bench.video.shape[-1]).to(bench.device)
    two = min(2, batch)
    step, clip = bench.step_gflop, bench.clip_gflop
    return [
        Row("MAE step", bench.step(bench.mae), step, batch),
        Row("MAE step with the critic", bench.step(bench.mae, bench.critic), step + bench.critic_gflop, batch),
        Row("token extraction", bench.extraction(bench.mae), clip, batch),
        Row("MAE step, bf16 autocast", bench.step(bench.mae, dtype=BF16), step, batch, BF16, "MAE step"),
        Row("token extraction, bf16 autocast", bench.extraction(bench.mae, BF16), clip, batch, BF16, "token extraction"),
        # the twin projects all 1,568 tubelets: it does more than it is credited with
        Row("MAE step, naive implementation", bench.step(twin, n=two), step, two, twin_of="MAE step"),
        Row("token extraction, naive implementation", bench.extraction(twin, n=two), clip, two, twin_of="token extraction"),
    ]


def compiled(name: str, args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """One row of COMPILED against the same without torch.compile: seconds until it was ready, and of a clip each."""
    what, dtype, part = COMPILED[name]
    bench, clock = Bench(args, device), Clock(device, args)
    plain = VideoMAE(args.scale, image_size=args.image).to(device)
    plain.load_state_dict(bench.mae.state_dict())
    if part == "blocks":
        for block in [*bench.mae.blocks, *bench.mae.decoder.blocks]:  # type: ignore[union-attr]
            block.compile(dynamic=False)
    if what == "step":
        pair = [bench.step(bench.mae, dtype=dtype, whole=part == "whole"), bench.step(plain, dtype=dtype)]
    else:
        pair = [bench.extraction(bench.mae, dtype), bench.extraction(plain, dtype)]
    start = time.perf_counter()
    pair[0]()
    ready = time.perf_counter() - start
    gflop = bench.step_gflop if what == "step" else bench.clip_gflop
    ours, theirs = (Row(name, run, gflop, args.batch, dtype) for run in pair)
    for _ in range(2):
        ours.measure(clock), theirs.measure(clock)
    seconds, beside = min(ours.seconds), min(theirs.seconds)
    return {"ready": ready, "seconds": seconds, "beside": beside, "share": max(ours.ratios), "gflops": gflop / seconds}


def compile_rows(limit: float) -> list[list[str]]:
    """The rows of COMPILED one after the other, as long as the limit in seconds for all of them lasts."""
    found, end = [], time.perf_counter() + limit
    for name in COMPILED:
        left = end - time.perf_counter()
        over = f"not started: the {limit:.0f} s for torch.compile were over"
        found.append(compile_row(name, left) if left > 5 else [name, "-", "-", "-", over])
        print(line(found[-1]), flush=True)
    return found


def compile_row(name: str, limit: float) -> list[str]:
    """One of them in a process of its own, with an empty compilation cache, ended with all its children at the limit."""
    command = [sys.executable, str(Path(__file__)), *sys.argv[1:], "--one", name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                                 start_new_session=True)  # fmt: skip
        try:
            out, error = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return [name, "-", "-", "-", f"not finished in {limit:.0f} s"]
    if child.returncode:
        last = (error.strip().splitlines() or ["no message"])[-1]
        return [name, "-", "-", "-", f"failed: {last[:120].replace('|', '/')}"]
    m = json.loads(out.strip().splitlines()[-1])
    kind = "bf16" if COMPILED[name][1] == BF16 else "float32"
    return [name, f"{m['seconds']:.3f}", f"{m['gflops']:.0f}", f"{m['share']:.2f} of {kind}",
            f"{m['seconds'] / m['beside']:.2f} times uncompiled; ready after {m['ready']:.0f} s"]


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile-limit", type=float, default=180.0, help="seconds for all rows of torch.compile")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    parser.add_argument("--one", choices=list(COMPILED), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.image = 224
    if args.miniature:
        args.scale, args.image, args.batch, args.rounds, args.compile_limit = "micro", 32, 1, 1, 0.0
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.cpu_time = args.cpu_time and device.type == "cpu"
    if args.one:
        print(json.dumps(compiled(args.one, args, device)))
        return
    clock, bench = Clock(device, args), Bench(args, device)
    speed = {dtype: clock.matmul(dtype, repeats=10) for dtype in (F32, BF16)}
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_name()}, {args.threads} thread(s)"
    facts = (f"A step is {bench.step_gflop:.1f} GFLOP per clip, {bench.step_gflop + bench.critic_gflop:.1f} with the critic; "
             f"token extraction {bench.clip_gflop:.1f}. Large matmul: {speed[F32]:.0f} GFLOP/s in float32, "
             f"{speed[BF16]:.0f} in bf16.")
    print(where, facts, sep="\n", flush=True)
    todo = rows(bench, args.scale, args.batch)
    for row in todo:
        row.run()  # warms up
    for _ in range(args.rounds):
        for row in todo:
            row.measure(clock)
    seconds = "CPU seconds" if args.cpu_time else "seconds"
    title = [f"ViT {args.scale}, mask 0.9, {args.batch} clips per step", f"{seconds} per clip", "GFLOP/s",
             "fraction of the machine's matmul", "compared with"]
    by_name = {row.name: row for row in todo}
    table = [title, ["---"] * len(title), *(row.cells(by_name) for row in todo)]
    print("\n".join(line(cells) for cells in table), flush=True)
    del todo, bench, by_name
    if args.compile_limit > 0:
        table += compile_rows(args.compile_limit)
    if args.out:
        accelerator = "" if device.type == "cuda" else " · no accelerator"
        command = " ".join(["python benchmarks/mae_models.py", *sys.argv[1:]])
        head = ["# Video MAE compared with the machine's matrix multiplication", "",
                f"{datetime.now(UTC):%Y-%m-%d} · {where}, torch {torch.__version__}, {args.rounds} rounds{accelerator}", "",
                f"    {command}", "", f"{facts} Method and targets: docstring of the script. Stage 2: [models.md](models.md).",
                ""]
        args.out.write_text("\n".join([*head, *(line(cells) for cells in table), ""]))


if __name__ == "__main__":
    main()
