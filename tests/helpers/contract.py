"""The fields of a run's summary and of its folds, with their types."""

TEXT, WHOLE, NUMBER, LOGICAL = str, int, float, bool
SUMMARY = {
    "dataset": TEXT, "task": TEXT, "classes": list, "model": TEXT, "encoder": TEXT, "n_parameters": WHOLE, "protocol": TEXT,
    "leaky": LOGICAL, "unproven": LOGICAL, "partial": LOGICAL, "n_subjects": WHOLE, "n_planned": WHOLE, "n_folds": WHOLE,
    "n_failed": WHOLE, "accuracy_mean": NUMBER, "accuracy_std": NUMBER, "accuracy_ci95": list,
    "accuracy_ci95_bootstrap": list, "macro_f1_mean": NUMBER, "macro_f1_pooled": NUMBER, "chance": NUMBER,
    "chance_uniform": NUMBER, "majority_baseline": NUMBER, "balanced_accuracy_mean": NUMBER, "balanced_accuracy_ci95": list,
    "auroc_mean": NUMBER, "auroc_ci95": list, "verdict": dict, "split": TEXT, "draws": (dict, type(None)),
    "configurations_on_cohort": WHOLE,
    "seeds": list, "wall_s": NUMBER, "versions": dict, "git_commit": (TEXT, type(None)),
    "dirty": (LOGICAL, type(None)), "key_fingerprint": TEXT, "predictions_sha256": TEXT, "folds": list}
FOLD = {
    "fold": WHOLE, "seed": WHOLE, "subject": TEXT, "n_test": WHOLE, "n_quarantined": WHOLE, "accuracy": NUMBER,
    "accuracy_with_quarantined": NUMBER, "macro_f1": NUMBER, "epochs": WHOLE, "train_subjects": list, "val_subjects": list,
    "scaler_sha256": TEXT, "encoder_sha256": TEXT, "weights_sha256": TEXT}
