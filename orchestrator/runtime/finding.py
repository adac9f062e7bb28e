"""One row of the checks: what was checked, its state, what was found, and the fix."""

from dataclasses import dataclass

OK, WARN, STOP = "ok", "warn", "stop"


@dataclass(frozen=True)
class Finding:
    """state: OK, WARN (a run works, with a warning) or STOP (a run would end with exit code 2)."""

    what: str
    state: str
    text: str
    fix: str = ""

    @classmethod
    def stop(cls, what: str, error: Exception | str) -> "Finding":
        """The message of an error, without the full stop that `sentence` adds."""
        return cls(what, STOP, str(error).rstrip("."))

    def sentence(self) -> str:
        return f"{self.what}: {self.text}; {self.fix}." if self.fix else f"{self.what}: {self.text}."
