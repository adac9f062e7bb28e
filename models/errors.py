"""Mistakes of the user about a model: one sentence that says what is wrong, where, and what to do."""


class ModelError(Exception):
    """A model, checkpoint or mask that cannot be built as requested. The commands end with exit code 2."""
