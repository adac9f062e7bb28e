"""What the chosen model reads: tokens of the frozen video encoder, signals, or whole clips of pixels."""

from models.registry import SIGNALS, TOKENS, VIDEO, find, lookup
from orchestrator.config.configuration import Config
from orchestrator.errors import UserError

__all__ = ["SIGNALS", "TOKENS", "VIDEO", "check_modalities", "chooses_epoch", "has_signal_encoder", "is_classifier",
           "is_estimator", "needs", "needs_of", "reads_encoder", "reads_video", "tokenizer_of"]


def needs(config: Config) -> frozenset[str]:
    return find(config.model.name).needs


def needs_of(model: str) -> frozenset[str]:
    """As `needs`, for the model of a finished run; empty if it is not in the register of this process."""
    known = lookup(model)
    return known.needs if known else frozenset()


def is_estimator(model: str) -> bool:
    """Whether it is fitted once, without epochs."""
    known = lookup(model)
    return known is not None and known.estimator


def is_classifier(model: str) -> bool:
    """Whether it is the paper's classifier, with both or one of its streams."""
    known = lookup(model)
    return known is not None and known.family == "classifier"


def has_signal_encoder(model: str) -> bool:
    """Whether it has E_ts, which the signal MAE pretrains."""
    known = lookup(model)
    return known is not None and bool(known.signal_encoder)


def tokenizer_of(model: str) -> str:
    """The default of model.signal.tokenizer, from which the signal encoder makes its tokens: "conv" or "step"."""
    return find(model).signal_encoder or "step"


def reads_video(config: Config) -> bool:
    """Whether videos are decoded for this model. A model that reads no video gets the clips of a cohort without video.

    one_number needs the video if its feature is the number of frames or keyframes; a clip's length is that of its signals.
    """
    counts = config.model.name == "one_number" and config.model.options().get("feature") in ("n_frames", "n_keyframes")
    return counts or bool(needs(config) & (TOKENS | VIDEO))


def reads_encoder(config: Config) -> bool:
    """Whether the model uses a result of pretraining: tokens of the video encoder, or E_ts."""
    return TOKENS <= needs(config) or has_signal_encoder(config.model.name)


def chooses_epoch(config: Config) -> bool:
    """Whether the model is trained by epochs; an estimator is fitted once and needs no validation subjects."""
    return not is_estimator(config.model.name)


def check_modalities(config: Config, dataset: str, video: bool, signals: bool) -> None:
    """Raises UserError for a model whose input the data set lacks. video, signals: whether the data set has them."""
    wanted, model = needs(config), config.model.name
    if wanted & (TOKENS | VIDEO) and not video:
        raise UserError(f"model={model} reads video, which {dataset} does not have: use model=signal or model=signal_small.")
    if wanted & SIGNALS and not signals:
        raise UserError(f"model={model} reads signals, which {dataset} does not have: use model=video.")
