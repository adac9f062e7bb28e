"""scikit-learn behind one fit / predict_proba interface: random forest, RBF SVM, ridge, and the one-number control.

Shapes: n samples, K classes, L samples, C channels.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import Tree

from models.baselines.exact_ridge import Linear, Sums, merge_all, solve
from models.baselines.window_statistics import window_statistics
from models.errors import ModelError

Arrays = Mapping[str, np.ndarray]
NUMBERS = ("clip_length", "n_frames", "n_keyframes", "sex", "age", "trial_order")  # the columns of arrays["numbers"]
ONE_NUMBER = ("gsr_peak", "clip_length", "n_frames", "n_keyframes", "sex_age", "trial_order")


class Estimator:
    """fit(arrays, labels, rows) on the given rows, predict_proba(arrays, rows) -> (len(rows), K) float64.

    The features of a row depend on that row only; what is fitted (scales, trees, vectors) depends on the training rows only.
    A class without a training sample gets probability 0.
    """

    needs: frozenset[str] = frozenset({"signals"})

    def __init__(self, n_classes: int, seed: int = 0):
        self.n_classes, self.seed = n_classes, seed
        self.classes = np.zeros(0, dtype=np.int64)

    def features(self, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
        return window_statistics(arrays["signals"][rows])

    def fit(self, arrays: Arrays, labels: np.ndarray, rows: np.ndarray, subjects: np.ndarray | None = None) -> "Estimator":
        """subjects (all samples,): the subject of each sample, for fits that use it; None: all samples count as one subject."""
        target = np.asarray(labels)[rows].astype(np.int64)
        if target.size == 0 or target.min() < 0 or target.max() >= self.n_classes:
            raise ValueError(f"labels must be 0..{self.n_classes - 1}, and at least one is needed")
        self.classes = np.unique(target)
        if len(self.classes) > 1:
            own = np.zeros(len(target), np.int64) if subjects is None else np.asarray(subjects)[rows]
            self._fit(self.features(arrays, rows), target, own)
        return self

    def predict_proba(self, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
        if not len(self.classes):
            raise ValueError("the estimator is not fitted: call fit first")
        found = np.zeros((len(rows), self.n_classes))
        one_class = len(self.classes) == 1
        found[:, self.classes] = 1.0 if one_class else self._proba(self.features(arrays, rows))
        return found

    def fitted(self) -> dict[str, np.ndarray]:
        """The fitted parameters by name: weights_sha256 is computed from them."""
        return {"classes": self.classes, **(self._fitted() if len(self.classes) > 1 else {})}

    def weights_sha256(self) -> str:
        digest = hashlib.sha256()
        for name, values in sorted(self.fitted().items()):
            values = np.ascontiguousarray(values)
            digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def _fit(self, x: np.ndarray, target: np.ndarray, subjects: np.ndarray) -> None:
        raise NotImplementedError

    def _proba(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _fitted(self) -> dict[str, np.ndarray]:
        raise NotImplementedError


def tree_arrays(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    names = ("children_left", "children_right", "feature", "threshold", "value")
    return {f"{prefix}.{name}": getattr(tree, name) for name in names}


def is_skin_conductance(name: str) -> bool:
    return any(part in name.lower() for part in ("gsr", "eda", "scl", "skin"))


def softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


class RandomForest(Estimator):
    """Random forest on the window statistics; probabilities are the mean votes of the trees."""

    def __init__(self, n_classes: int, seed: int = 0, trees: int = 300, min_leaf: int = 1, **_: Any):
        super().__init__(n_classes, seed)
        self.model = RandomForestClassifier(trees, min_samples_leaf=min_leaf, random_state=seed, n_jobs=1)

    def _fit(self, x: np.ndarray, target: np.ndarray, subjects: np.ndarray) -> None:
        self.model.fit(x, target)

    def _proba(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(x)

    def _fitted(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for i, tree in enumerate(self.model.estimators_):
            found.update(tree_arrays(tree.tree_, f"tree{i:05d}"))
        return found


class GaussianSVM(Estimator):
    """RBF SVM on features standardised with mean and standard deviation of the training rows.

    Its probabilities are the softmax of the one-vs-rest margins: in the same order, but not calibrated.
    """

    def __init__(self, n_classes: int, seed: int = 0, c: float = 1.0, gamma: str | float = "scale", **_: Any):
        super().__init__(n_classes, seed)
        self.scaler = StandardScaler()
        self.model = SVC(C=c, gamma=gamma, decision_function_shape="ovr", random_state=seed)

    def _fit(self, x: np.ndarray, target: np.ndarray, subjects: np.ndarray) -> None:
        self.model.fit(self.scaler.fit_transform(x), target)

    def _proba(self, x: np.ndarray) -> np.ndarray:
        margin = self.model.decision_function(self.scaler.transform(x))
        return softmax(np.stack([-margin, margin], 1) if margin.ndim == 1 else margin)

    def _fitted(self) -> dict[str, np.ndarray]:
        names = ("support_vectors_", "dual_coef_", "intercept_")
        return {"scaler.mean": self.scaler.mean_, "scaler.scale": self.scaler.scale_,
                **{name: np.asarray(getattr(self.model, name)) for name in names}}


class RidgeLeastSquares(Estimator):
    """Ridge regression on one-hot labels, from the sums of each subject merged in ascending order (exact_ridge.py).

    Probabilities are the softmax of the fitted values: in the same order, but not calibrated.
    """

    def __init__(self, n_classes: int, seed: int = 0, alpha: float = 1.0, **_: Any):
        super().__init__(n_classes, seed)
        self.alpha = alpha
        self.linear: Linear | None = None

    def _fit(self, x: np.ndarray, target: np.ndarray, subjects: np.ndarray) -> None:
        y = (target[:, None] == self.classes).astype(np.float64)
        parts = [Sums.of(x[subjects == subject], y[subjects == subject]) for subject in np.unique(subjects)]
        self.linear = solve(merge_all(parts), self.alpha)

    def _proba(self, x: np.ndarray) -> np.ndarray:
        assert self.linear is not None
        return softmax(self.linear.predict(x))

    def _fitted(self) -> dict[str, np.ndarray]:
        assert self.linear is not None
        return {"scaler.mean": self.linear.mean, "scaler.scale": self.linear.scale, "coef": self.linear.coef,
                "intercept": self.linear.intercept}


def columns_of(feature: str) -> list[int]:
    """The columns of arrays["numbers"] that a feature of the one-number control is made of."""
    return [NUMBERS.index(name) for name in (("sex", "age") if feature == "sex_age" else (feature,))]


class OneNumber(Estimator):
    """The control: one number per sample (sex and age: two), classified by a small decision tree. A high score means that the
    number reveals the class.

    feature "gsr_peak": position (0..1) of the maximum of the skin-conductance channel, found by its name in
    `channels` (else the first); "clip_length", "n_frames", "n_keyframes", "sex_age", "trial_order": columns of
    arrays["numbers"] (n, 6), NaN where not known.
    """

    def __init__(
        self,
        n_classes: int,
        seed: int = 0,
        feature: str = "gsr_peak",
        channels: Sequence[str] = (),
        leaves: int = 8,
        **_: Any,
    ):
        super().__init__(n_classes, seed)
        if feature not in ONE_NUMBER:
            raise ModelError(f"one_number has no feature {feature!r}: choose one of {', '.join(ONE_NUMBER)}")
        self.feature, self.leaves = feature, leaves
        self.channel = next((i for i, name in enumerate(channels) if is_skin_conductance(name)), 0)
        self.needs = frozenset({"signals" if feature == "gsr_peak" else "numbers"})
        self.model = DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=seed)

    def features(self, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
        if self.feature != "gsr_peak":
            return np.asarray(arrays["numbers"])[rows][:, columns_of(self.feature)].astype(np.float64)
        channel_nL = arrays["signals"][rows][:, :, self.channel]
        return (channel_nL.argmax(1) / max(channel_nL.shape[1] - 1, 1)).reshape(-1, 1)

    def _fit(self, x: np.ndarray, target: np.ndarray, subjects: np.ndarray) -> None:
        self.model.set_params(min_samples_leaf=max(1, min(20, len(x) // 20)))
        self.model.fit(x, target)

    def _proba(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(x)

    def _fitted(self) -> dict[str, np.ndarray]:
        return tree_arrays(self.model.tree_, "tree")


class OnWindowStatistics(Estimator):
    """Any scikit-learn classifier or pipeline with predict_proba, on the window statistics of each channel."""

    def __init__(self, estimator: Any, n_classes: int, seed: int = 0):
        super().__init__(n_classes, seed)
        self.model = estimator

    def _fit(self, x: np.ndarray, target: np.ndarray, subjects: np.ndarray) -> None:
        self.model = clone(self.model).fit(x, target)

    def _proba(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(x)

    def _fitted(self) -> dict[str, np.ndarray]:
        return learnt(self.model)


def learnt(estimator: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """The fitted parameters of a scikit-learn estimator by name: arrays and numbers in attributes that end in an underscore,
    also those of its parts. ModelError if there are none."""
    found: dict[str, np.ndarray] = {}
    parts = [(name, value) for name, value in vars(estimator).items() if name.endswith("_") and not name.startswith("_")]
    for name, value in [*parts, *(getattr(estimator, "steps", None) or [])]:
        if isinstance(value, Tree):
            found |= tree_arrays(value, f"{prefix}{name}")
        elif isinstance(value, BaseEstimator):
            found |= learnt(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple | np.ndarray) and len(np.shape(value)) and any(
                isinstance(one, BaseEstimator) for one in np.ravel(np.asarray(value, dtype=object))):
            for i, one in enumerate(np.ravel(np.asarray(value, dtype=object))):
                found |= learnt(one, f"{prefix}{name}.{i}.")
        elif isinstance(value, np.ndarray | int | float | str):
            found[f"{prefix}{name}"] = np.asarray(value)
    if not found and not prefix:
        raise ModelError(f"{type(estimator).__name__} has no fitted parameters in attributes that end in an underscore: "
                         "use an estimator that has some.")
    return found
