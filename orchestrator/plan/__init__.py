"""The plan before anything runs: splits, pretraining groups, folds."""
