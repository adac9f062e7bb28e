"""Landmarks or boxes computed by other software, read from one file per video.

For a video `a/b.mp4` the first of `a/b.landmarks.npy`, `.landmarks.parquet`, `.boxes.npy` and `.boxes.parquet` is used
(next to the video, or below precomputed_dir with the same relative path as the video has below precomputed_root).

Arrays have one row per frame of the video file, NaN where there is no face, in pixels of the upright frame of square pixels:
landmarks (F, 468 or 92, 2 or 3), of which x and y are used; boxes (F, 4) left, top, right, bottom.
Parquet: one row per frame in order, one list column "landmarks" (flattened x, y[, z] by point) or "box", with an
optional column "score". With boxes only, the mesh is run inside them. A score below face.score, of the file or of the
mesh, counts as no face.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from preprocessing.errors import ClipError, InputError
from preprocessing.face.landmarks import N_MESH, N_POINTS
from preprocessing.face.mesh import FaceMesh
from preprocessing.face.roi import roi_of_box
from preprocessing.inputs.paths import is_file, is_folder
from preprocessing.video.frames import Frame


class PrecomputedTracker:
    """A tracking.Tracker that returns stored values. load_mesh is only called for boxes; gate: minimum score of a face."""

    def __init__(self, landmarks: np.ndarray | None, boxes: np.ndarray | None, scores: np.ndarray | None,
                 load_mesh: Callable[[], FaceMesh], gate: float = 0.5):
        self.landmarks, self.boxes, self.scores, self._load_mesh, self.gate = landmarks, boxes, scores, load_mesh, gate
        self.max_faces = 1
        self.brightest = 255.0  # the pixels are not checked, so no video counts as black

    @classmethod
    def beside(cls, video: Path, folder: Path | None, root: Path | None, load_mesh: Callable[[], FaceMesh],
               gate: float = 0.5) -> "PrecomputedTracker":
        place = video
        if folder is not None:
            inside = root is not None and video.is_relative_to(root)
            place = folder / (video.relative_to(root) if inside and root is not None else video.name)
        stem = place.parent / (place.name if is_folder(video) else place.stem)
        for name in ("landmarks", "boxes"):
            for suffix in ("npy", "parquet"):
                path = stem.with_name(f"{stem.name}.{name}.{suffix}")
                if is_file(path):
                    values, scores = _read(path, "landmarks" if name == "landmarks" else "box")
                    if name == "landmarks":
                        return cls(_as_landmarks(values), None, scores, load_mesh, gate)
                    return cls(None, _as_boxes(values), scores, load_mesh, gate)
        fix = "no precomputed landmarks or boxes for this video: add its .landmarks.npy, or use face.provider=litert"
        raise ClipError("face", "no_landmark_file", fix)

    def expect(self, frame: Frame) -> None:
        pass

    @property
    def rows(self) -> np.ndarray:
        rows = self.landmarks if self.landmarks is not None else self.boxes
        assert rows is not None
        return rows

    @cached_property
    def mesh(self) -> FaceMesh:
        try:
            return self._load_mesh()
        except InputError as error:
            fix = "boxes need the face mesh, which is missing: run make install, set face.weights_dir, or give landmarks"
            raise ClipError("face", "no_mesh", fix) from error

    def finish(self, n_frames: int | None) -> None:
        """n_frames of the whole video, None where it was not read to its end. A file with more rows is of another video."""
        if n_frames is not None and n_frames != len(self.rows):
            fix = f"the file has {len(self.rows)} rows and the video {n_frames} frames: give one row per frame"
            raise ClipError("face", "landmarks_mismatch", fix)

    def step(self, frame: Frame) -> tuple[np.ndarray | None, float]:
        rows = self.rows
        if frame.index >= len(rows):
            fix = f"the file has {len(rows)} rows and the video more frames: give one row per frame"
            raise ClipError("face", "landmarks_mismatch", fix)
        row = rows[frame.index]
        if not np.isfinite(row).all():
            return None, 0.0
        score = 1.0 if self.scores is None else float(self.scores[frame.index])
        if not score >= self.gate:  # an empty cell (NaN) counts as no face
            return None, score if np.isfinite(score) else 0.0
        if self.landmarks is not None:
            return row, score
        points, score = self.mesh.find(frame, roi_of_box(row))
        return (points if score >= self.gate else None), score


def _read(path: Path, column: str) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
            if not isinstance(values, np.ndarray):
                raise ValueError("an npz file named .npy")
            return values, None
        table = pq.read_table(path)
        scores = None
        if "score" in table.column_names:
            scores = table["score"].to_numpy(zero_copy_only=False).astype(np.float64)
        return np.array(table[column].to_pylist(), np.float64), scores
    except Exception as error:  # np.load raises many types on damaged files, see tables.read_array
        fix = "the precomputed landmarks or boxes cannot be read: see preprocessing/face/precomputed.py for their format"
        raise ClipError("face", "bad_landmark_file", fix) from error


def _as_landmarks(values: np.ndarray) -> np.ndarray:
    if values.ndim == 2:  # a flattened list column; 92 and 468 points with 2 or 3 numbers are four different lengths
        shapes = {n * d: (n, d) for n in (N_MESH, N_POINTS) for d in (2, 3)}
        if values.shape[1] in shapes:
            values = values.reshape(-1, *shapes[values.shape[1]])
    if values.ndim != 3 or values.shape[1] not in (N_MESH, N_POINTS) or values.shape[2] not in (2, 3):
        fix = f"landmarks are (frames, 468 or 92, 2 or 3), not {values.shape}"
        raise ClipError("face", "bad_landmark_file", fix)
    return _numbers(values)[:, :, :2]


def _as_boxes(values: np.ndarray) -> np.ndarray:
    if values.ndim != 2 or values.shape[1] != 4:
        raise ClipError("face", "bad_landmark_file", f"boxes are (frames, 4), not {values.shape}")
    boxes = _numbers(values)
    boxes[(boxes[:, 2:] <= boxes[:, :2]).any(axis=1)] = np.nan  # an empty box counts as no face
    return boxes


def _numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiu":
        raise ClipError("face", "bad_landmark_file", f"landmarks and boxes are numbers, not {values.dtype.name}")
    return values.astype(np.float64)
