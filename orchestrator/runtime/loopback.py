"""A Ray that this command starts listens only on 127.0.0.1.

Ray replaces 127.0.0.1 by the machine's outer address, and its services then listen on every interface, unless it is told
that this machine is in no cluster. torch's workers find each other through a file instead of torch's TCP store, which cannot
be bound to an interface, and communicate over the loopback interface.
"""

import os
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

ADDRESS = "127.0.0.1"


def environment() -> None:
    """For this process and its children. Call it before Ray is imported; what Ray has already read is corrected."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if constants := sys.modules.get("ray._private.ray_constants"):
        constants.ENABLE_RAY_CLUSTER = False  # type: ignore[attr-defined]
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = interface()
    if any(os.environ.get(name) for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
                                             "grpc_proxy")):
        for name in ("no_proxy", "NO_PROXY"):  # else requests to this machine would go through the proxy
            listed = [word for word in os.environ.get(name, "").split(",") if word]
            if "*" not in listed:
                os.environ[name] = ",".join([*listed, *(word for word in (ADDRESS, "localhost") if word not in listed)])


def interface() -> str:
    """The loopback interface's name."""
    names = [name for _, name in socket.if_nameindex()]
    return "lo0" if "lo" not in names and "lo0" in names else "lo"


def torch_config() -> Any:
    """Ray Train's TorchConfig for workers of one machine. They find each other through a file in Ray's session folder."""
    import ray
    from ray.train.torch import TorchConfig
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend

    class FileBackend(_TorchBackend):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            node: Any = ray._private.worker._global_node
            folder = Path(node.get_session_dir_path())
            meeting = f"file://{folder / f'torch-{uuid.uuid4().hex}'}"  # a new one for every start
            worker_group.execute(_set_torch_distributed_env_vars)
            ray.get([worker_group.execute_single_async(
                rank, _setup_torch_process_group, backend=backend_config.backend, world_rank=rank,
                world_size=len(worker_group), init_method=meeting, timeout_s=backend_config.timeout_s)
                for rank in range(len(worker_group))])

    class FileConfig(TorchConfig):
        @property
        def backend_cls(self) -> type:
            return FileBackend

    return FileConfig()
