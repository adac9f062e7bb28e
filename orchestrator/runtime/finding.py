"""One row of what was looked at: what, whether it is well, what was found, and the fix."""

from dataclasses import dataclass

OK, WARN, STOP = "ok", "warn", "stop"


@dataclass(frozen=True)
class Finding:
    """state: OK, WARN (a run works, but read this) or STOP (a run would end with exit code 2)."""

    what: str
    state: str
    text: str
    fix: str = ""

    @classmethod
    def stop(cls, what: str, error: Exception | str) -> "Finding":
        """A mistake's own sentence, without the full stop that `sentence` sets."""
        return cls(what, STOP, str(error).rstrip("."))

    def sentence(self) -> str:
        return f"{self.what}: {self.text}; {self.fix}." if self.fix else f"{self.what}: {self.text}."
