"""What the chosen model reads: tokens of the frozen video encoder, signals, or whole clips."""

from orchestrator.config import Config
from orchestrator.errors import UserError

TOKENS, SIGNALS = frozenset({"tokens"}), frozenset({"signals"})
NEEDS = {
    "dual": TOKENS | SIGNALS, "video": TOKENS, "signal": SIGNALS, "signal_small": SIGNALS,
    "lstm": SIGNALS, "transformer": SIGNALS, "convtran": SIGNALS,
    "random_forest": SIGNALS, "svm": SIGNALS, "ridge": SIGNALS, "one_number": SIGNALS,
}
ESTIMATORS = ("random_forest", "svm", "ridge", "one_number")


def needs(config: Config) -> frozenset[str]:
    """Raises UserError for a model that the folds cannot run yet."""
    name = config.model.name
    if name not in NEEDS:
        raise UserError(f"model={name} is not built into the folds yet: choose one of {', '.join(NEEDS)}.")
    return NEEDS[name]
