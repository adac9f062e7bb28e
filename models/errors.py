"""The user's mistake about a model: one sentence that says what, where and what to do."""


class ModelError(Exception):
    """A model, checkpoint or mask that cannot be had as asked for. Entry points turn it into exit code 2."""
