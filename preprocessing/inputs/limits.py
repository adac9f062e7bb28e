"""The largest inputs that are opened. Sizes are read from the file headers; a clip beyond a limit is excluded."""

from dataclasses import dataclass

from preprocessing.inputs.checks import check_number


@dataclass(frozen=True)
class Limits:
    """max_pixels: of one frame (width x height); max_channels: of one recording; max_rows: of one signal file.

    The defaults allow usual recordings (8K video, 256-channel EEG, a day at 2 kHz) and bound the memory of a worker.
    """

    max_pixels: int = 40_000_000
    max_channels: int = 512
    max_rows: int = 200_000_000

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_channels", "max_rows"):
            check_number(name, getattr(self, name), least=1, whole=True)
