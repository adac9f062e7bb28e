"""The two kinds of bad input: the user's mistake, and one bad clip among good ones."""


class InputError(Exception):
    """The user's mistake: one sentence that says what is wrong, where, and what to do. Ends with exit code 2."""


class ClipError(Exception):
    """One clip that cannot be used: becomes a quarantine row, never stops its neighbours.

    stage: "video" | "face" | "keyframes" | "signal"; reason: a short stable slug such as "no_face";
    fix: one sentence for the person who owns the recordings.
    """

    def __init__(self, stage: str, reason: str, fix: str):
        super().__init__(f"{stage}: {reason}: {fix}")
        self.stage, self.reason, self.fix = stage, reason, fix

    def __reduce__(self):
        return type(self), (self.stage, self.reason, self.fix)
