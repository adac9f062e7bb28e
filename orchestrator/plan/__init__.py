"""The plan of a run: splits, pretraining groups, folds."""
