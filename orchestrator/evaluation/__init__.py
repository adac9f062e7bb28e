"""Stage 4: the folds of a run, fitted, kept, audited."""
