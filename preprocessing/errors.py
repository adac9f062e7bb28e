"""The two kinds of input errors: a mistake of the user, which stops the run, and a single clip that cannot be used."""


class InputError(Exception):
    """A mistake of the user: one sentence that says what is wrong, where, and what to do. Leads to exit code 2."""


class ClipError(Exception):
    """One clip that cannot be used: it is excluded and listed with its reason; the other clips are processed.

    stage: "video" | "face" | "keyframes" | "signal"; reason: a short stable slug such as "no_face";
    fix: one sentence for the user that says what to do. names: the file and its columns, which may hold ids: only for the
    terminal of the doctor and for the store's folder private/. They are neither in the text nor pickled.
    """

    def __init__(self, stage: str, reason: str, fix: str, names: str = ""):
        super().__init__(f"{stage}: {reason}: {fix}")
        self.stage, self.reason, self.fix, self.names = stage, reason, fix, names

    def __reduce__(self):
        return type(self), (self.stage, self.reason, self.fix)
