"""A public MARLIN checkpoint in place of the video MAE: its architecture, and what is known about its training subjects."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cohort.lineage import Lineage
from orchestrator.config.configuration import Config
from orchestrator.errors import UserError
from orchestrator.files.storage import file_sha256

if TYPE_CHECKING:  # torch takes seconds to import
    from models.mae.video_mae import VideoMAE
    from orchestrator.cohort.cohort import Cohort


@dataclass(frozen=True)
class PublicCheckpoint:
    """options: of VideoMAE, read from the file's shapes. saw: none | unknown | a file that lists subjects."""

    path: Path
    sha256: str
    options: dict
    saw: str
    heads: int | None
    decoder_heads: int | None

    def load_marlin(self) -> "VideoMAE":
        from models.interop import load_marlin

        return load_marlin(self.path, self.heads, self.decoder_heads, self.options["frames"])

    def lineage(self, people: "Cohort") -> Lineage:
        """Raises UserError for a list that cannot be read, or that names a subject which these cohorts do not have."""
        name = f"checkpoint {self.sha256[:8]}"
        if self.saw == "unknown":
            return Lineage(name, proven=False)
        return Lineage(name, frozenset() if self.saw == "none" else _listed(Path(self.saw).expanduser(), people))


def read_public_checkpoint(config: Config) -> PublicCheckpoint | None:
    """None without pretrain.checkpoint. Raises UserError where the file is not one that can be used here."""
    if not config.pretrain.checkpoint:
        return None
    path = Path(config.pretrain.checkpoint).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"pretrain.checkpoint={path} is not a file: give a MARLIN checkpoint, or leave it out to "
                        "pretrain here.")
    given, stat = config.encoder.options(), path.stat()
    sha, options = _read(path, (stat.st_size, stat.st_mtime_ns), given.get("heads"), given.get("decoder_heads"),
                         config.clip.frames, config.encoder.scale)
    return PublicCheckpoint(path, sha, dict(options), config.pretrain.checkpoint_saw, given.get("heads"),
                            given.get("decoder_heads"))


@lru_cache(maxsize=4)
def _read(path: Path, stamp: tuple, heads: int | None, decoder_heads: int | None, frames: int, scale: str) -> tuple[str, dict]:
    from models.errors import ModelError
    from models.interop import load_marlin

    try:
        mae = load_marlin(path, heads, decoder_heads, frames)
    except ModelError as error:
        raise UserError(f"pretrain.checkpoint: {error} Set what the file does not contain with clip.frames, encoder.heads and "
                        "encoder.decoder_heads.") from error
    options = {"scale": scale, "image_size": mae.image_size, "frames": mae.frames, "tubelet": mae.tubelet,
               "patch": mae.patch, "depth": len(mae.blocks), "dim": mae.dim, "heads": mae.heads,
               "decoder": mae.decoder is not None}
    if mae.decoder is not None:
        width = len(mae.decoder.mask_token)
        options |= {"decoder_depth": len(mae.decoder.blocks), "decoder_dim": width,
                    "decoder_heads": decoder_heads or width // 64}  # the rule of load_marlin
    return file_sha256(path), options


def _listed(path: Path, people: "Cohort") -> frozenset[str]:
    """One subject per line: the id as the data set writes it, or cohort/id. Those of other cohorts cannot be tested here."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"pretrain.checkpoint_saw={path} cannot be read: give none, unknown, or a text file with one subject "
                        "per line.") from error
    keys = {clip.subject: people.keys([clip.subject])[0] for clip in people.clips}
    known = {(keys[clip.subject].partition("/")[0], clip.recording.subject): keys[clip.subject] for clip in people.clips}
    cohorts = {cohort for cohort, _ in known}
    found = set()
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        cohort, separator, raw = line.partition("/")
        if separator and cohort not in cohorts:
            continue
        found |= set(_person(path, raw if separator else line, [cohort] if separator else sorted(cohorts), known))
    return frozenset(found)


def _person(path: Path, raw: str, cohorts: Iterable[str], known: dict[tuple[str, str], str]) -> list[str]:
    found = [known[cohort, raw] for cohort in cohorts if (cohort, raw) in known]
    if not found:
        raise UserError(f"pretrain.checkpoint_saw={path} names {raw!r}, who is not a subject of this cohort: write ids as the "
                        "data set does, and subjects of other data sets as cohort/id.")
    return found
