"""The loss curve of a pretraining: loss terms of each step in steps.parquet, means of each epoch in curve.json."""

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from models.mae.training_state import part
from orchestrator.files.storage import atomic_path, write_bytes


class Curve:
    """Columns of equal length, one value per step: epoch (from 0), lr, and the loss terms."""

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self.columns.get("epoch", []))

    def add(self, epoch: int, lr: float, terms: Mapping[str, float]) -> None:
        for name, value in {"epoch": epoch, "lr": lr, **terms}.items():
            self.columns.setdefault(name, []).append(value)

    def epoch_loss(self, epoch: int) -> float:
        losses = [x for e, x in zip(self.columns["epoch"], self.columns["reconstruction"], strict=True) if e == epoch]
        return sum(losses) / len(losses)

    def epochs(self) -> list[tuple[int, float, float]]:
        """(epoch from 0, lr, mean reconstruction)."""
        rates = dict(zip(self.columns.get("epoch", []), self.columns.get("lr", []), strict=True))
        return [(int(epoch), rate, self.epoch_loss(int(epoch))) for epoch, rate in rates.items()]

    def tensors(self) -> dict[str, Tensor]:
        return {f"curve.{name}": torch.tensor(values, dtype=torch.float64) for name, values in self.columns.items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Curve":
        curve = cls()
        curve.columns = {name: values.tolist() for name, values in part(tensors, "curve.").items()}
        # safetensors sorts tensors by name: restore the order of `add`
        order = ["epoch", "lr", "reconstruction"]
        names = [n for n in order if n in curve.columns] + sorted(n for n in curve.columns if n not in order)
        curve.columns = {name: curve.columns[name] for name in names}
        return curve


def write_curves(folder: Path, encoder: str, curves: Mapping[str, Curve]) -> None:
    """curves: by stage. The same steps give the same bytes, no matter how often the training was interrupted."""
    rows = [{"stage": stage, "encoder": encoder, "epoch": epoch + 1, "epochs": len(curve.epochs()), "lr": lr, "loss": loss}
            for stage, curve in curves.items() for epoch, lr, loss in curve.epochs()]
    write_bytes(folder / "curve.json", json.dumps(rows).encode())
    terms = sorted({name for curve in curves.values() for name in curve.columns} - {"epoch"})
    table = [{"stage": stage, "step": i + 1, "epoch": int(epoch) + 1,
              **{name: curve.columns[name][i] if name in curve.columns else None for name in terms}}
             for stage, curve in curves.items() for i, epoch in enumerate(curve.columns.get("epoch", []))]
    schema = pa.schema([("stage", pa.string()), ("step", pa.int64()), ("epoch", pa.int64()),
                        *((name, pa.float64()) for name in terms)])
    with atomic_path(folder / "steps.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(table, schema), temporary)
