"""Checks the cluster of RAY_ADDRESS within seconds: does it answer, has it our version of Ray, does it accept our token?

Ray itself would wait for minutes, without a message, for a cluster that does not exist any more.
"""

import ipaddress
import os
import re
import socket
from pathlib import Path

from orchestrator.runtime.finding import OK, STOP, WARN, Finding

PATIENCE = 5.0  # seconds for each request
HINT = "start the cluster, or unset RAY_ADDRESS to run on this machine alone"


def named() -> str:
    """The address of a cluster to join; "" where Ray is started on this machine."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return "" if address == "local" else address


def check() -> Finding:
    """One row about the cluster of RAY_ADDRESS. Takes at most 3 x PATIENCE and Ray's import; no time if it is not set."""
    address = named()
    if not address:
        return Finding("Ray", OK, "starts on this machine, on loopback, and ends with the command")
    wrong, fix = _wrong(address)
    if wrong:
        return Finding("Ray", STOP, f"RAY_ADDRESS={address} {wrong}", fix)
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return Finding("Ray", WARN, "RAY_ADDRESS names a cluster and token authentication is off",
                       "set RAY_AUTH_MODE=token on every node, see docs/how-to/cluster.md")
    return Finding("Ray", OK, "joins the running cluster (RAY_ADDRESS); store and run.dir must be in a folder that "
                              "every node can access")


def _wrong(address: str) -> tuple[str, str]:
    """(what is wrong, what to do), empty where the cluster answers."""
    if "://" in address:
        return ("is for Ray Client or another tool, which a run cannot use",
                "run the command on a node of the cluster, with RAY_ADDRESS=auto")
    if address == "auto":
        address = _running()
        if not address:
            return "finds no cluster that runs on this machine", HINT
    pair = parse(address)
    if pair is None:
        return "is not an address", "write RAY_ADDRESS=HOST:PORT with the cluster's own port (6379 by default), or auto"
    host, port = pair
    try:
        with socket.create_connection((host, port), timeout=PATIENCE):
            pass
    except socket.gaierror:
        return f"names the host {host}, which cannot be resolved", "correct it, or unset RAY_ADDRESS"
    except OSError as error:
        return f"does not answer ({error.strerror or error}): that cluster is gone or cannot be reached", HINT
    return _greeted(host, port)


def parse(address: str) -> tuple[str, int] | None:
    """Host and port; None for what is neither HOST:PORT nor [IPV6]:PORT."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%a-z]+\]|[^\s:/\[\]]+):(\d{1,5})", address)
    if not found or not 0 < int(found[2]) < 65536:
        return None
    host = found[1].strip("[]")
    if found[1].startswith("["):
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return None
    return host, int(found[2])


def _running() -> str:
    """The address that `auto` means here, as Ray finds it; "" where there is none."""
    from ray._private import services

    services.find_gcs_addresses.cache_clear()  # type: ignore[attr-defined]
    try:
        return services.canonicalize_bootstrap_address("auto") or ""
    except Exception:  # Ray's own kinds: no cluster, or a file with nonsense in it
        return ""


def token() -> str:
    """The token that Ray would send, in Ray's order: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    try:
        named = os.environ.get("RAY_AUTH_TOKEN_PATH")
        return (Path(named) if named else Path.home() / ".ray" / "auth_token").read_text(encoding="utf-8").strip()
    except (OSError, RuntimeError, ValueError):
        return ""


def _greeted(host: str, port: int) -> tuple[str, str]:
    """The port is open: ask for its version of Ray."""
    import grpc
    import ray
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    mode, known = os.environ.get("RAY_AUTH_MODE", "").lower(), token()
    if mode == "token" and not known:
        return ("needs a token that this account does not have",
                "copy the cluster's token to ~/.ray/auth_token, see docs/how-to/cluster.md")
    shown = [("authorization", f"Bearer {known}")] if known and mode in ("", "token") else []
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            reply = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel).CheckAlive(
                gcs_service_pb2.CheckAliveRequest(),  # type: ignore[attr-defined]
                timeout=PATIENCE, metadata=shown)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:  # type: ignore[attr-defined]
                return ("is a cluster with another token than this account's", "set RAY_AUTH_MODE=token and copy the "
                        "cluster's token to ~/.ray/auth_token, see docs/how-to/cluster.md")
            return ("answers, but not as the head of a Ray cluster", "give the head's own port (6379 by default), "
                    "not the dashboard's or Ray Client's")
    if reply.ray_version != ray.__version__:
        return (f"is a cluster of Ray {reply.ray_version}, and Ray {ray.__version__} is installed here",
                "install the same version on both sides")
    from ray._private import services

    if not services.find_node_ids():
        return ("is a cluster that has no node on this machine", "run the command on one of its nodes, with RAY_ADDRESS=auto")
    return "", ""
