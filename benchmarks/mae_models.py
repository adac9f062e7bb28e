"""How much of the machine the video MAE uses: a training step and token extraction, without Ray.

    python benchmarks/mae_models.py [--threads 1] [--batch 4] [--rounds 5] [--compile] [--out benchmarks/mae_models.md]

Each row: GFLOP/s over the machine's own large matmul (2048 x 2048, float32, same thread count), which is timed before
and after every single run because clocks and neighbours drift; the median of the ratios. FLOP = 2 per multiply-add,
backward = twice the forward, no recomputation and no element-wise work counted. Against a naive twin with the same
weights: the patch projection over every token before masking, and attention as softmax(q k^T) v.
--cpu-time counts this process's CPU seconds instead of wall seconds: for one thread on a machine others use.
On CUDA the same rows, and MFU against the bf16 matmul.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from models.critic import Critic  # noqa: E402
from models.mae_training import VideoMAEObjective, VideoMAERecipe, video_optimisers, video_step  # noqa: E402
from models.masks import tube_mask  # noqa: E402
from models.video_mae import VideoMAE, take  # noqa: E402
from models.vit import Attention  # noqa: E402


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

    def __init__(self, device: torch.device, cpu_time: bool):
        self.device = device
        self.now = time.process_time if cpu_time else time.perf_counter
        self.size = 8192 if device.type == "cuda" else 2048
        self.a = torch.randn(self.size, self.size, device=device)

    def time(self, run: Callable[[], object]) -> float:
        self._wait()
        start = self.now()
        run()
        self._wait()
        return self.now() - start

    def matmul(self, dtype: torch.dtype = torch.float32, repeats: int = 3) -> float:
        """GFLOP/s of a large product."""
        a = self.a.to(dtype)
        out = torch.empty_like(a)
        seconds = self.time(lambda: [torch.mm(a, a, out=out) for _ in range(repeats)])
        return 2 * self.size**3 * repeats / seconds / 1e9

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@dataclass
class Row:
    name: str
    seconds: float  # a clip
    gflops: float
    ratio: float


def measure(clock: Clock, name: str, run: Callable[[], object], gflop: float, batch: int, rounds: int) -> Row:
    """gflop: of one clip. Two calls warm up: the first also compiles."""
    run(), run()
    speeds, ratios = [], []
    for _ in range(rounds):
        before = clock.matmul()
        seconds = clock.time(run)
        around = (before + clock.matmul()) / 2
        speeds.append(gflop * batch / seconds)
        ratios.append(speeds[-1] / around)
    speed = statistics.median(speeds)
    row = Row(name, gflop / speed, speed, statistics.median(ratios))
    print(f"{row.name:44s} {row.seconds:8.3f} s/clip {row.gflops:9.1f} GFLOP/s  {row.ratio:6.3f}", flush=True)
    return row


def rows(args: argparse.Namespace, clock: Clock) -> list[Row]:
    device = clock.device
    torch.manual_seed(0)
    mae = VideoMAE(args.scale).to(device)
    twin = NaiveVideoMAE(scale=args.scale).to(device)
    critic = Critic(mae.patch_values, 2 * mae.dim).to(device)
    video = torch.rand(args.batch, 3, 16, 224, 224, device=device)
    visible = tube_mask(args.batch, mae.grid, 0.9).to(device)
    alpha = torch.rand(args.batch, 1, device=device)
    n_visible = int(visible[0].sum())
    step, clip = step_flop(mae, n_visible) / 1e9, encode_flop(mae, mae.n_tokens) / 1e9
    players = step + critic_flop(critic, mae.n_tokens - n_visible, args.batch) / 1e9
    print(f"a step is {step:.1f} GFLOP a clip, {players:.1f} with the critic; token extraction {clip:.1f}")
    # The twin projects all 1,568 tubelets: it does more than it is credited with.

    def trainer(model: VideoMAE, adversary: Critic | None = None, dtype=None, compiled=False) -> Callable[[], object]:
        objective = VideoMAEObjective(model, adversary)
        optimisers = video_optimisers(objective, VideoMAERecipe())
        called: nn.Module = torch.compile(objective) if compiled else objective  # type: ignore[assignment]
        return lambda: video_step(called, optimisers, video, visible, alpha, autocast=dtype)

    def extractor(model: VideoMAE, dtype=None, compiled=False) -> Callable[[], object]:
        encode = torch.compile(model.encode) if compiled else model.encode

        def run() -> Tensor:
            with torch.no_grad(), torch.autocast(device.type, dtype=dtype) if dtype else nullcontext():
                return encode(video)

        return run

    bf16 = torch.bfloat16
    todo: list[tuple[str, Callable[[], object], float]] = [
        ("MAE step, float32", trainer(mae), step),
        ("MAE step with the critic, float32", trainer(mae, critic), players),
        ("token extraction, float32", extractor(mae), clip),
        ("MAE step, bf16 autocast", trainer(mae, dtype=bf16), step),
        ("token extraction, bf16 autocast", extractor(mae, dtype=bf16), clip),
        ("MAE step, naive twin", trainer(twin), step),
        ("token extraction, naive twin", extractor(twin), clip),
    ]
    if args.compile:
        todo += [
            ("MAE step, torch.compile", trainer(mae, compiled=True), step),
            ("MAE step, torch.compile, bf16", trainer(mae, dtype=bf16, compiled=True), step),
            ("token extraction, torch.compile", extractor(mae, compiled=True), clip),
            ("token extraction, torch.compile, bf16", extractor(mae, dtype=bf16, compiled=True), clip),
        ]
    wanted = [t for t in todo if not args.only or any(part in t[0] for part in args.only)]
    return [measure(clock, name, run, gflop, args.batch, args.rounds) for name, run, gflop in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also through torch.compile (minutes)")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--only", nargs="*", help="rows whose name contains one of these")
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = Clock(device, args.cpu_time and device.type == "cpu")
    clock.matmul()
    matmul, matmul_bf16 = clock.matmul(repeats=10), clock.matmul(torch.bfloat16, repeats=10)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_name()}, {args.threads} thread(s)"
    print(f"{where}: matmul {matmul:.0f} GFLOP/s float32, {matmul_bf16:.0f} bf16; batch {args.batch}")
    table = rows(args, clock)
    if args.out:
        head = f"{where}; torch {torch.__version__}; large matmul {matmul:.0f} GFLOP/s (float32), {matmul_bf16:.0f} (bf16)"
        seconds = "CPU seconds" if args.cpu_time else "seconds"
        title = f"| ViT {args.scale}, mask 0.9, batch {args.batch} | {seconds} a clip | GFLOP/s | of float32 matmul |"
        lines = [head, "", title, "|---|---|---|---|"]
        lines += [f"| {r.name} | {r.seconds:.3f} | {r.gflops:.0f} | {r.ratio:.2f} |" for r in table]
        args.out.write_text("\n".join(lines) + "\n")


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    models = [x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")] if (
        info.exists()) else []  # fmt: skip
    return models[0] if models else platform.processor()


if __name__ == "__main__":
    main()
