"""Errors that end a command, and the exit codes users and scripts rely on."""

EXIT_DONE, EXIT_DEFECT, EXIT_USER, EXIT_FAILED_FOLDS, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


class UserError(Exception):
    """The user's mistake: one sentence with what, where and the fix. Ends with exit code 2, no traceback."""


class FoldError(UserError):
    """One fold cannot be fitted from the clips there are, and trying again will not help. The other folds can."""


class LineageError(UserError):
    """A fold would meet its own test person in something it uses; names the artefact and the way in."""
