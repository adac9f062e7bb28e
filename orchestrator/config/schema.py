"""The options a user can set: the allowed values of each, in one table; and checks of the command line's arguments.

The rows are looked up by key; `model.signal` has those of `smae`. An option without a row is checked against the signature of
the class that receives it (stages/check_options.py), or checked by the options class of preprocessing (face, keyframe, signal).
docs/reference/options.md, which docs/tables.py writes, shows them all.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.registry import lookup
from orchestrator.config.option import Option, is_number, shown
from orchestrator.config.signature import rows
from orchestrator.errors import UserError

LARGEST_SEED = 2**32 - 1  # what scikit-learn and every generator here take
MOST_SEEDS = 1000
MOST_EPOCHS = 100_000


def _whole(key: str, least: int = 1, most: int = 1_000_000, **more: Any) -> Option:
    return Option(key, "whole", least=least, most=most, **more)


def _share(key: str, **more: Any) -> Option:
    """A probability below 1: dropout, smoothing."""
    return Option(key, "number", least=0, below=1, **more)


def _rate(key: str, **more: Any) -> Option:
    """A learning rate."""
    return Option(key, "number", above=0, most=1000, **more)


def _number_from(key: str, least: float = 0, most: float = 1e6, **more: Any) -> Option:
    return Option(key, "number", least=least, most=most, **more)


def _flag(key: str, **more: Any) -> Option:
    return Option(key, "flag", **more)


def _word(key: str, *words: str, **more: Any) -> Option:
    return Option(key, "word", words=words, **more)


def _seed(key: str, **more: Any) -> Option:
    return Option(key, "whole", least=0, most=LARGEST_SEED, **more)


def _signal_mae(node: str) -> list[Option]:
    return [
        _whole(f"{node}.dim", most=65536, about="width of the signal encoder"),
        _whole(f"{node}.depth", most=1000, about="transformer layers of the signal encoder"),
        _whole(f"{node}.heads", most=4096, about="attention heads; they must divide the width"),
        _whole(f"{node}.ff", about="hidden units of the feed-forward layers"),
        _word(f"{node}.norm", "batch", "layer", about="normalisation; `layer` is recommended below 16 samples per batch"),
        _word(f"{node}.pos", "fixed", "learnt", "none", about="positional encoding; `fixed`: sine and cosine"),
        _word(f"{node}.decoder", "transformer", "linear", about="decoder; `linear`: GELU and a linear map, as released"),
        _whole(f"{node}.decoder_depth", most=1000, about="transformer layers of the decoder"),
        _whole(f"{node}.max_tokens", most=65536, about="largest number of convolution tokens per window"),
        _whole(f"{node}.conv_layers", most=100, about="strided convolutions that make a token"),
        _whole(f"{node}.conv_kernel", about="width of these convolutions, if there are several"),
        _share(f"{node}.dropout", about="dropout in the signal encoder"),
    ]


# about: what the option is. Empty where a comment in experiments/ says it: docs/tables.py takes it from there.
OPTIONS: tuple[Option, ...] = (
    # the run
    Option("task.name", "text", about="name of the task; it becomes a part of the run folder's name"),
    Option("task.classes", "whole", least=0, most=1_000_000, many=(2, 1000), once=True,
           about="labels of the data set that are the classes, in this order; other clips are not used"),
    _word("frames", "keyframes", "all"), _flag("strict"), _flag("audit"), _flag("controls"),
    _whole("canaries.repeats", most=1000, null=True), Option("canaries.points", "number", above=0, most=100),
    _whole("max_folds", null=True),
    _word("scale", "train_z", "train_minmax", "clip_minmax", "subject_z"),
    _whole("protocol.val_subjects", null=True), _word("protocol.val", "inner", "fixed_epochs"),
    _flag("protocol.refit", null=True), _whole("protocol.as_paper_epochs", most=MOST_EPOCHS),
    _whole("split.n", 2), _whole("split.k", 2), _seed("split.seed", about="seed by which subjects are assigned to folds"),
    _whole("split.test_subjects", null=True),
    _whole("split.repeats", most=10_000), _word("split.list", "auto", "own", "random", "hold_out_26"),
    Option("split.classes", "whole", least=0, most=1_000_000, many=(2, 1000), once=True, null=True),
    _flag("data.allow_partial"), _word("data.source", "raw", "filtered"),
    Option("data.subjects", "whole", least=67, most=67, words=("all", "67", "hold_out_61", "hold_out_26")),
    *(_whole(f"data.max_{name}", most=2**62) for name in ("pixels", "channels", "rows")),
    _whole("synthetic.subjects", most=10_000, about="number of subjects"),
    _whole("synthetic.clips_per_level", most=20, about="clips of each subject at each level"),
    _number_from("synthetic.effect", most=100, about="how strongly faces and signals respond to the stimulus; 0: not at all"),
    _seed("synthetic.seed", about="seed of the cohort"),
    Option("synthetic.levels", "text", many=(1, 5), once=True, null=True),
    _whole("synthetic.size", 64, 4096, many=(2, 2), about="width and height of the videos in pixels"),
    _word("run.executor", "ray", "inline"),
    _whole("resources.cpus", most=4096, null=True), Option("resources.fold_timeout_s", "number", above=0, most=1e9),
    _whole("resources.folds_per_gpu", most=1000, null=True), _flag("resources.dashboard"),
    # the encoders
    _whole("clip.frames", 2, 10_000), _whole("clip.rate"),
    _word("embed.pool", "none", "2x2", "temporal"),
    _whole("embed.batch", most=65536, about="clips per forward pass of the encoder"),
    _word("embed.dtype", "float16", "int8"),
    _word("encoder.scale", "micro", "tiny", "small", "base", "large", about="scale of the video MAE (paper, Table 3)"),
    _whole("encoder.image_size", 8, 4096, about="side of the frames in pixels, for the encoder and models that read video"),
    _whole("encoder.tubelet", most=1000, about="frames of one token"),
    _whole("encoder.patch", most=224, about="side of one token in pixels"),
    _whole("encoder.depth", most=1000, null=True, about="layers; null: those of the scale"),
    _whole("encoder.dim", most=65536, null=True, about="width; null: that of the scale"),
    _whole("encoder.heads", most=4096, null=True, about="attention heads; null: those of the scale"),
    _whole("encoder.decoder_depth", most=1000, null=True, about="layers of the decoder; null: those of the scale"),
    _whole("encoder.decoder_dim", most=65536, null=True, about="width of the decoder; null: half of the encoder's"),
    _whole("encoder.decoder_heads", most=4096, null=True, about="attention heads of the decoder; null: by its width"),
    _flag("encoder.norm_target", about="reconstruct each token with mean 0 and variance 1 per colour, not raw pixels"),
    *_signal_mae("smae"), *_signal_mae("model.signal"),
    _word("model.signal.tokenizer", "step", "conv",
          about="`step`: one token per time step; `conv`: tokens of strided convolutions"),
    # pretraining
    Option("pretrain.fraction", "number", above=0, below=0.5, null=True),
    Option("pretrain.subjects", "whole", least=0, most=1_000_000, many=(1, 1_000_000), once=True, null=True),
    Option("pretrain.checkpoint_saw", "text"), Option("pretrain.from", "text", null=True),
    _seed("pretrain.seed", about="seed of initial weights, order, masks and groups"),
    _whole("pretrain.seeds", most=MOST_SEEDS), _whole("pretrain.workers", most=4096, null=True),
    _word("pretrain.precision", "auto", "float32", "bf16"), _whole("pretrain.save_epochs", most=MOST_EPOCHS, null=True),
    _whole("pretrain.save_steps", most=10**9, null=True),
    Option("pretrain.save_seconds", "number", above=0, most=1e9, null=True),
    _whole("pretrain.cache_mb", 0, 2**31),
    *(option for node, what in (("pretrain.video", "video"), ("pretrain.signal", "signal")) for option in (
        _whole(f"{node}.epochs", most=MOST_EPOCHS, about=f"epochs of the {what} MAE"),
        _whole(f"{node}.batch", about="" if what == "video" else "windows per step over all workers"),
        _whole(f"{node}.accumulate", most=65536, about="" if what == "video" else "gradient accumulation, as for the video"),
        _rate(f"{node}.lr"),
        Option(f"{node}.clip", "number", above=0, most=1e9, null=True,
               about="" if what == "video" else "largest norm of the gradient; null: no limit"),
        Option(f"{node}.mask_ratio", "number", above=0, below=1,
               about=f"masked share of the {'tokens' if what == 'video' else 'time points'}"))),
    _whole("pretrain.video.warmup", 0, MOST_EPOCHS), _number_from("pretrain.video.min_lr", most=1000),
    _number_from("pretrain.video.weight_decay", most=1000, about="weight decay of AdamW"),
    _word("pretrain.video.mask", "tube", "random", "frame"),
    _number_from("pretrain.video.adv_weight"), _number_from("pretrain.video.gp"),
    Option("pretrain.video.eps", "number", above=0, most=1, about="epsilon of AdamW"),
    _share("pretrain.video.betas", many=(2, 2), about="betas of AdamW"),
    _flag("pretrain.signal.split"), _word("pretrain.signal.loss_on", "masked", "all"),
    _number_from("pretrain.signal.mask_length", 1), _flag("pretrain.signal.concurrent"),
    _flag("pretrain.signal.bernoulli"), _flag("pretrain.signal.harden"),
    # training
    _word("train.optimizer", "radam", "adam", "adamw", about="optimizer"),
    _rate("train.lr", about="learning rate"),
    _rate("train.lr_signal", null=True, about="learning rate of the signal encoder; null: as the others"),
    _whole("train.batch_size", 2, about="clips per step"),
    _whole("train.max_epochs", most=MOST_EPOCHS, about="largest number of epochs"),
    _whole("train.patience", most=MOST_EPOCHS, about="epochs without an improvement of `train.monitor` before training stops"),
    _word("train.monitor", "val_loss", "val_accuracy", about="what chooses the epoch, on the inner validation subjects"),
    _word("train.stop", "patience", "rate",
          about="`rate`: halve the rate on plateaus of the training loss and stop at 1e-6, as the released code does"),
    Option("train.grad_clip", "number", above=0, most=1e9, null=True, about="largest norm of the gradient; null: no limit"),
    Option("train.lr_decay", "number", above=0, most=1, about="the learning rates are multiplied by this after every epoch"),
    _word("train.lr_schedule", "constant", "cosine", about="`cosine`: half a cosine down to 0 over `train.max_epochs`"),
    _flag("train.plateau", about="halve the learning rates after half of `train.patience` epochs without improvement"),
    _number_from("train.weight_decay", most=1000, about="weight decay"),
    _share("train.label_smoothing", about="label smoothing of the cross-entropy"),
    _number_from("train.signal_stretch", most=10, about="standard deviation of the logarithm of a random time stretch"),
    _number_from("train.signal_shift", about="largest random shift in time, in steps"),
    Option("train.signal_mirror", "number", least=-1, most=1, many=(0, 1000),
           about="one sign per channel, applied to half of the windows: the recording from the other side of the body"),
    _number_from("train.signal_rotate", most=360,
                 about="size in degrees of a random rotation of the vectors in `train.signal_vectors`"),
    Option("train.signal_vectors", "vectors", about="channels that are the x, y and z of one sensor, for the rotation"),
    _number_from("train.signal_scale", most=10, about="standard deviation of the logarithm of a random gain per channel"),
    _number_from("train.signal_mix", most=10, about="standard deviation of a random matrix, added to the identity, that mixes "
                                                    "the channels"),
    _number_from("train.signal_noise", most=1000, about="standard deviation of white noise, in units of the scaled signal"),
    # the classifiers
    _flag("model.use_hpa", null=True, about="hybrid positional attention (HPA) on each stream; false: none"),
    _flag("model.use_dcan", about="fusion of the two streams by cross-attention (DCAN); false: concatenation"),
    _word("model.pooling", "mean", "mean_max", "tokens", null=True,
          about="how tokens become one vector without DCAN; `tokens`: all of them, each with its own weights"),
    _share("model.dropout", null=True, about="dropout before the last layer, without DCAN"),
    _word("model.signal_output", "latent", "reconstruction",
          about="what the signal encoder gives to the classifier; `reconstruction`: as the released code"),
    _word("model.hpa.impl", "fused", "naive", about="implementation: speed and memory only"),
    _whole("model.hpa.emb", most=65536, about="width of the embedding"),
    _whole("model.hpa.heads", most=4096, about="attention heads"),
    _whole("model.hpa.ff", about="hidden units of the feed-forward layer"),
    _whole("model.hpa.filters", most=65536, about="filters of the embedding `convtran`"),
    _whole("model.hpa.kernel", most=65536, about="width of the convolution of the embeddings `convtran` and `conv1d`"),
    _word("model.hpa.embed", "convtran", "linear", "conv1d", about="how tokens are embedded"),
    _word("model.hpa.order", "embed_then_tape", "tape_then_embed", about="`tape_then_embed`: as printed in Algorithm 1"),
    _flag("model.hpa.residual", about="residual connections; false: as printed in Algorithm 1"),
    _word("model.hpa.erpe", "post_softmax", "pre_softmax", about="where the relative positions are added"),
    _share("model.hpa.dropout", about="dropout in HPA"),
    _word("model.hpa.token_pool", "none", "2x2", "temporal", about="mean over video tokens before HPA, an approximation"),
    _whole("model.dcan.dim", most=65536, about="width of both streams in the fusion"),
    _whole("model.dcan.layers", most=1000, about="layers of cross-attention"),
    _whole("model.dcan.hidden", about="hidden units of the fusion `mlp`"),
    _word("model.dcan.fusion", "mlp", "linear", "released", about="how streams are combined; `released`: the authors' code"),
    _flag("model.dcan.scale", about="divide the affinity by the root of the width; false: as printed in Algorithm 1"),
    _whole("model.dcan.compress", null=True, about="map both streams to this number of tokens first; null: off"),
    _share("model.dcan.dropout", about="dropout in the fusion `released`"),
    _flag("model.dcan.regressor", about="build the layer that the released code has and never calls: it only adds parameters"),
    # the comparison models
    _whole("model.width", most=65536, about="width of the network"),
    _whole("model.signal_width", 2, 65536, about="width of the signal branch"),
    _whole("model.label_width", most=65536, about="width of the class embeddings"),
    _whole("model.heads", most=4096, about="attention heads"),
    _whole("model.ff", about="hidden units of the feed-forward layer"),
    _whole("model.depth", most=1000, about="transformer blocks"), _whole("model.layers", most=1000, about="LSTM layers"),
    _whole("model.mlp", about="hidden units of each block"),
    _whole("model.tubelet", many=(3, 3), about="frames, height and width of one token"),
    Option("model.backbone", "text", about="timm network for each frame"),
    Option("model.weights", "text", null=True, about="local file with weights for the video network; null: random"),
    _whole("model.trees", most=100_000, about="trees of the forest"), _whole("model.min_leaf", about="fewest clips in a leaf"),
    Option("model.c", "number", above=0, most=1e12, about="C of the SVM: the larger, the more an error costs"),
    Option("model.gamma", "number", above=0, most=1e12, words=("scale", "auto"), about="gamma of the RBF kernel"),
    _number_from("model.alpha", most=1e12, about="penalty of the ridge regression"),
    _word("model.feature", "gsr_peak", "clip_length", "n_frames", "n_keyframes", "sex_age", "trial_order",
          about="the number that the control sees; `gsr_peak`: when skin conductance is largest"),
    _whole("model.leaves", 2, about="most leaves of the control's decision tree"),
    # upper bounds; the options classes of preprocessing check the rest
    _whole("signal.length"), _whole("face.size", 8, 4096), _whole("face.min_frames"), _whole("keyframe.k_min"),
    _whole("signal.emg_order", most=20), _whole("signal.ecg_order", most=20),
    Option("sweep.encoder", "text", many=(1, 1000), once=True, about="encoders of the grid"),
    Option("sweep.mask_ratio", "number", above=0, below=1, many=(1, 1000), once=True, about="mask ratios of the grid"),
    _flag("sweep.halves"),
    Option("compare.margin", "number", above=0, below=100,
           about="`orchestrator.compare`: margin of the test of non-inferiority, in percentage points"),
)
TABLE: dict[str, Option] = {option.key: option for option in OPTIONS}
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check_values(raw: Mapping[str, Any]) -> None:
    """Every value of a composed configuration against its row, in the table's order. Raises UserError for the first that
    does not fit."""
    given = dict(_leaves(raw))
    model = lookup(str(given.get("model.name")))
    own = model is not None and not isinstance(model.make, str)  # a plugin's: its signature is its table
    table = {key: option for key, option in TABLE.items() if not (own and key.startswith("model."))}
    if model is not None and own:
        table |= {option.key: option for option in rows(model.maker(), "model")}
    for key, option in table.items():
        if key in given:
            option.check(given[key])
    _check_seeds(given.get("protocol.seeds"))
    name = given.get("task.name")
    if isinstance(name, str) and (not TASK_NAME.fullmatch(name) or ".." in name):
        raise UserError(f"task.name={shown(name)} does not fit: it becomes a part of the run folder's name, so it may have "
                        "at most 64 letters, digits, points, hyphens and underscores.")


def _check_seeds(seeds: Any) -> None:
    """A count, or a list of seeds."""
    if isinstance(seeds, list | tuple):
        if not seeds or len(seeds) > MOST_SEEDS or len({str(s) for s in seeds}) < len(seeds) or not all(
                is_number(s, True) and 0 <= s <= LARGEST_SEED for s in seeds):
            raise UserError(f"protocol.seeds={shown(seeds)} does not fit: it needs at least one seed and at most "
                            f"{MOST_SEEDS}, each once and a whole number from 0 to {LARGEST_SEED:,}.")
    elif seeds is not None and not (is_number(seeds, True) and 1 <= seeds <= MOST_SEEDS):
        raise UserError(f"protocol.seeds={shown(seeds)} does not fit: a count needs at least one seed and at most {MOST_SEEDS}"
                        "; to choose the seeds themselves, write a list, [3,5].")


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_UNDERSCORED = re.compile(r"(?<![\w.])[+-]?\d+(?:_\d+)+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w.])")
_CALL = re.compile(r"[A-Za-z_]+\(")


def check_word(word: str, key: str, path: bool) -> None:
    """UserError for an argument whose value is probably a mistake: an empty one, one with invisible characters, several values
    instead of one, or something that Hydra would replace."""
    shown, value = _visible(word), word.partition("=")[2]
    if word.startswith("~"):
        raise UserError(f"'{shown}' would delete an option, which is not possible: leave it out, or write {key}=VALUE.")
    if any(unicodedata.category(c) == "Cc" for c in word):
        raise UserError(f"'{shown}' contains an invisible character (a Windows line ending?): type the argument again.")
    blank = [c for c in (value[:1] + value[-1:] if path else word)
             if c != " " and unicodedata.category(c) in ("Zs", "Zl", "Zp", "Cf")]
    if blank or (path and value.strip() and value != value.strip()):
        raise UserError(f"'{shown}' contains an unexpected space: type the argument again without it.")
    if not value.strip().strip("'\"").strip():
        raise UserError(f"{key}= is empty: give a value, or leave it out.")
    if "${" in value:
        raise UserError(f"'{shown}' contains ${{...}}, which is not replaced here: write the value itself.")
    if value.strip() == "???":
        raise UserError(f"{key}=??? is not a value: give one, or leave it out.")
    if path or value.startswith(("'", '"')):
        return
    row = TABLE.get(key)
    if (row is None or row.kind != "text") and _UNDERSCORED.search(value):
        raise UserError(f"'{shown}' contains a number with an underscore: write only its digits.")
    if _several(value):
        raise UserError(f"'{shown}' gives several values, but a command takes one: write a list as {key}=[a,b], or run the "
                        "command once for each.")
    if _CALL.match(value):
        raise UserError(f"'{shown}' calls a function of Hydra, which is not supported here: write the value itself.")


def _visible(word: str) -> str:
    """The argument with its invisible characters written out."""
    return "".join(c if c == " " or unicodedata.category(c) not in ("Cc", "Cf", "Zs", "Zl", "Zp") else f"\\x{ord(c):02x}"
                   for c in word)


def _several(value: str) -> bool:
    """Whether there is a comma outside brackets and quotes."""
    depth, quote = 0, ""
    for c in value:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "[{(":
            depth += 1
        elif c in ")}]":
            depth -= 1
        elif c == "," and depth == 0:
            return True
    return False


def repeated(keys: Sequence[str]) -> list[str]:
    """Keys that are given more than once, in the order of their first place."""
    return [key for i, key in enumerate(keys) if key in keys[i + 1:] and key not in keys[:i]]
