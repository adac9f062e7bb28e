"""The user's mistake, as far as models can see it."""


class ModelError(Exception):
    """One sentence that says what is wrong, where, and what to do (an unknown name, a file that does not fit)."""
