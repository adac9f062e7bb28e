"""Scores over subjects from predictions, and statistical tests of them."""
