"""DistributedDataParallel for objectives whose buffers need no synchronisation: tables, and statistics shared already."""

import inspect
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

# torch 2.13 renamed broadcast_buffers. With the new name, buffers are still sent once when the module is wrapped; they are
# equal then.
_NAMES = inspect.signature(DistributedDataParallel.__init__).parameters
KEEP_BUFFERS = {"forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False}


def data_parallel(module: nn.Module, **options: Any) -> DistributedDataParallel:
    """options: of DistributedDataParallel. Needs a process group."""
    return DistributedDataParallel(module, **KEEP_BUFFERS, **options)  # type: ignore[arg-type]
