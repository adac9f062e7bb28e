"""Errors that end a command, and the exit codes users and scripts rely on."""

EXIT_DONE, EXIT_DEFECT, EXIT_USER, EXIT_FAILED_FOLDS, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


class UserError(Exception):
    """The user's mistake: one sentence with what, where and the fix. Ends with exit code 2, no traceback."""


class FoldError(UserError):
    """One fold cannot be fitted with the available clips, and a retry will not help. The other folds are not affected."""


class LineageError(UserError):
    """Something that a fold uses was trained on its test subject; names the artefact and how the subject leaked in."""
