"""What the chosen model reads: tokens of the frozen video encoder, signals, or whole clips of pixels."""

from orchestrator.config.configuration import Config
from orchestrator.errors import UserError

TOKENS, SIGNALS, VIDEO = frozenset({"tokens"}), frozenset({"signals"}), frozenset({"video"})
NEEDS = {
    "dual": TOKENS | SIGNALS, "video": TOKENS, "signal": SIGNALS, "signal_small": SIGNALS,
    "lstm": SIGNALS, "transformer": SIGNALS, "convtran": SIGNALS,
    "resnet3d": VIDEO, "vit3d": VIDEO, "vgg_rnn": VIDEO, "e2e_mer": VIDEO | SIGNALS, "mte_mer": VIDEO | SIGNALS,
    "random_forest": SIGNALS, "svm": SIGNALS, "ridge": SIGNALS, "one_number": SIGNALS,
}
ESTIMATORS = ("random_forest", "svm", "ridge", "one_number")
SIGNAL_ENCODERS = ("dual", "signal", "signal_small")  # those with E_ts, which the signal MAE pretrains


def needs(config: Config) -> frozenset[str]:
    return NEEDS[config.model.name]


def tokenizer_of(model: str) -> str:
    """What the signal encoder makes its tokens of where model.signal.tokenizer does not say: "conv" or "step"."""
    return "conv" if model == "signal_small" else "step"


def reads_video(config: Config) -> bool:
    """Whether the films are decoded for this model. What reads no video has the clips of a cohort without films.

    one_number reads a film's numbers of frames and keyframes where that is its number; a clip's length is its signals'.
    """
    counts = config.model.name == "one_number" and config.model.options().get("feature") in ("n_frames", "n_keyframes")
    return counts or bool(needs(config) & (TOKENS | VIDEO))


def reads_encoder(config: Config) -> bool:
    """Whether the model reads anything that pretraining leaves: tokens of the video encoder, or E_ts."""
    return TOKENS <= needs(config) or config.model.name in SIGNAL_ENCODERS


def chooses_epoch(config: Config) -> bool:
    """Whether the model is trained by epochs; an estimator is fitted once, and wants nobody to choose by."""
    return config.model.name not in ESTIMATORS


def check_modalities(config: Config, dataset: str, video: bool, signals: bool) -> None:
    """Raises UserError for a model that reads what the data set has none of. video, signals: whether it has."""
    wanted, model = needs(config), config.model.name
    if wanted & (TOKENS | VIDEO) and not video:
        raise UserError(f"model={model} reads video, which {dataset} does not have: use model=signal or model=signal_small.")
    if wanted & SIGNALS and not signals:
        raise UserError(f"model={model} reads signals, which {dataset} does not have: use model=video.")
