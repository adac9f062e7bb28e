"""Two runtimes for the face models with one interface: LiteRT, and OpenCV's dnn as the fallback."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from preprocessing.errors import InputError

RUNTIMES = ("litert", "opencv")

Model = Callable[[np.ndarray], dict[int, np.ndarray]]
"""(1, H, W, 3) float32 -> {size: flattened output}: the order of the outputs differs between the runtimes."""


def load_model(path: Path, runtime: str = "litert") -> Model:
    """A model that runs on one thread and returns copies."""
    if runtime == "litert":
        return _litert(path)
    if runtime == "opencv":
        return _opencv(path)
    raise ValueError(f"unknown runtime {runtime!r}: one of {RUNTIMES}")


def _litert(path: Path) -> Model:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError("ai-edge-litert is not installed: run `make install`, or set face.provider=opencv") from error
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run(x: np.ndarray) -> dict[int, np.ndarray]:
        interpreter.set_tensor(entry, x)
        interpreter.invoke()
        arrays = [interpreter.get_tensor(index).ravel() for index in outputs]
        return {a.size: a for a in arrays}

    return run


def _opencv(path: Path) -> Model:
    # The default engine of OpenCV 5 silently returns one output of two; 4.x has the classic engine only.
    classic = getattr(cv2.dnn, "ENGINE_CLASSIC", None)
    net = cv2.dnn.readNetFromTFLite(str(path)) if classic is None else cv2.dnn.readNetFromTFLite(str(path), classic)
    names = net.getUnconnectedOutLayersNames()

    def run(x: np.ndarray) -> dict[int, np.ndarray]:
        net.setInput(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        return {a.size: a.ravel().copy() for a in net.forward(names)}

    return run
