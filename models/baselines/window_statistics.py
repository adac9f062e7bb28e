"""Ten statistics of each channel of a window: the features of the forest, the SVM and ridge.

Shapes: n windows, L samples, C channels.
"""

import numpy as np

STATISTICS = ("mean", "std", "min", "max", "slope", "rms", "median", "q25", "q75", "roughness")


def window_statistics(signals: np.ndarray) -> np.ndarray:
    """(n, L, C) -> (n, 10 C) float64, channel by channel in the order of STATISTICS.

    slope: least squares, per sample; rms: root mean square; roughness: root mean square of successive differences.
    """
    if signals.ndim != 3 or signals.shape[1] < 2:
        raise ValueError(f"signals must be (n, L, C) with L >= 2, got {signals.shape}")
    return np.concatenate([_statistics(signals[i : i + 1024]) for i in range(0, len(signals), 1024)])


def _statistics(signals: np.ndarray) -> np.ndarray:
    x_nLC = signals.astype(np.float64)
    time_L = np.arange(x_nLC.shape[1]) - (x_nLC.shape[1] - 1) / 2
    q25, median, q75 = np.quantile(x_nLC, [0.25, 0.5, 0.75], axis=1)
    columns = [
        x_nLC.mean(1),
        x_nLC.std(1),
        x_nLC.min(1),
        x_nLC.max(1),
        np.einsum("l,nlc->nc", time_L, x_nLC) / (time_L**2).sum(),
        np.sqrt((x_nLC**2).mean(1)),
        median,
        q25,
        q75,
        np.sqrt((np.diff(x_nLC, axis=1) ** 2).mean(1)),
    ]
    return np.stack(columns, axis=-1).reshape(len(x_nLC), -1)
