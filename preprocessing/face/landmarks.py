"""The points of the 468-point face mesh that are used: eyes, eyebrows and lips (paper, Fig. 1), 92 in total.

Point numbers are those of the MediaPipe face mesh; "right" is the right side of the subject.
"""

import numpy as np

N_MESH = 468

RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
LEFT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
LIPS_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)

POINTS = np.array(RIGHT_EYE + LEFT_EYE + RIGHT_BROW + LEFT_BROW + LIPS_OUTER + LIPS_INNER)
N_POINTS = len(POINTS)  # 92

EYE_CORNERS = (33, 263)  # outer corners in the mesh, right then left
_CORNERS_BY_COUNT = {
    N_MESH: EYE_CORNERS,
    N_POINTS: (0, len(RIGHT_EYE)),  # the first point of each eye above is its outer corner
    68: (36, 45),  # the 68-point layout of precomputed landmarks
}


def eye_corners(n_points: int) -> tuple[int, int]:
    """Positions of the outer eye corners in a set of n_points landmarks: 468, 92 or 68. ValueError for others."""
    if n_points not in _CORNERS_BY_COUNT:
        known = sorted(_CORNERS_BY_COUNT)
        raise ValueError(f"no interocular distance for {n_points} landmarks (known: {known}): use norm='none'")
    return _CORNERS_BY_COUNT[n_points]


def interocular(landmarks: np.ndarray) -> float:
    """Median distance in pixels between the outer eye corners over the frames (F, P, 2) that have a face.

    One value per clip, so that a turning head does not change the unit of the distances.
    """
    right, left = eye_corners(landmarks.shape[1])
    distance = np.linalg.norm(landmarks[:, right].astype(np.float64) - landmarks[:, left], axis=-1)
    return float(np.nanmedian(distance)) if np.isfinite(distance).any() else float("nan")
