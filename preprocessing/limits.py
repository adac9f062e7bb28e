"""How large an input may be before it is opened: sizes are read from headers, and what is beyond them costs one clip."""

from dataclasses import dataclass

from preprocessing.checks import check_number


@dataclass(frozen=True)
class Limits:
    """max_pixels: of one picture (width x height); max_channels: of one recording; max_rows: of one signal file.

    The defaults hold what the field records (8K video, 256-channel EEG, a day at 2 kHz), and keep a worker within its memory.
    """

    max_pixels: int = 40_000_000
    max_channels: int = 512
    max_rows: int = 200_000_000

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_channels", "max_rows"):
            check_number(name, getattr(self, name), least=1, whole=True)
