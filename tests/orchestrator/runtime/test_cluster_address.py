"""RAY_ADDRESS: what leads to no cluster of ours is one sentence within seconds. No Ray is started here."""

import socket
import threading
import time
from concurrent import futures
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.configuration import compose
from orchestrator.runtime import cluster_address
from orchestrator.runtime.finding import OK, STOP, WARN
from orchestrator.runtime.surroundings import require


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(cluster_address, "PATIENCE", 2.0)


def asked(monkeypatch, address: str):
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    found = cluster_address.check()
    assert time.monotonic() - began < 30
    return found


@contextmanager
def listening(answer: bytes | None):
    """A port of a program that is not Ray: it sends this to every client, or nothing at all."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        held = []

        def serve():
            while True:
                try:
                    made, _ = server.accept()
                except OSError:
                    return
                held.append(made)
                if answer is not None:
                    made.sendall(answer)
                    made.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for made in held:
            made.close()


@contextmanager
def head(version: str, token: str = ""):
    """Something that answers as the head of a cluster does."""
    import grpc
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    class Books(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
        def CheckAlive(self, request, context):
            if token and ("authorization", f"Bearer {token}") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return gcs_service_pb2.CheckAliveReply(ray_version=version)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(Books(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@pytest.mark.parametrize("address", ["", "local", "  "])
def test_nothing_to_join(monkeypatch, address):
    assert asked(monkeypatch, address).state == OK and cluster_address.named() == ""


@pytest.mark.parametrize("address", ["ray://head:10001", "http://127.0.0.1:8265", "head", "head:", "head:port", ":6379",
                                     "head:0", "head:70000", "a b:6379", "1.2.3.4:6379/x", "[zz]:6379", "::1:6379", "auto:"])
def test_what_is_no_address_of_a_cluster(monkeypatch, address):
    found = asked(monkeypatch, address)
    assert found.state == STOP and f"RAY_ADDRESS={address.strip()}" in found.sentence() and "\n" not in found.sentence()


def test_a_port_that_does_not_answer(monkeypatch, tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    found = asked(monkeypatch, f"127.0.0.1:{port}")
    assert found.state == STOP and "does not answer" in found.text and "unset RAY_ADDRESS" in found.fix
    with pytest.raises(Exception, match="RAY_ADDRESS") as told:
        require(compose("watch", [f"store={tmp_path}"]))
    assert type(told.value).__name__ == "UserError"


def test_a_host_that_cannot_be_resolved(monkeypatch):
    def unknown(*words, **more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    assert "cannot be resolved" in asked(monkeypatch, "no-such-head:6379").text


def test_a_machine_that_never_answers(monkeypatch):
    def silent(*words, timeout, **more):
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    assert "does not answer (timed out)" in asked(monkeypatch, "10.255.255.1:6379").text


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_something_else_than_ray(monkeypatch, answer):
    with listening(answer) as address:
        found = asked(monkeypatch, address)
    assert found.state == STOP and "not as the head of a Ray cluster" in found.text


def test_another_version_another_token_and_no_node_here(monkeypatch):
    import ray
    from ray._private import services

    with head("2.9.3") as address:
        assert "Ray 2.9.3" in asked(monkeypatch, address).text
    with head(ray.__version__, "secret") as address:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        assert "another token" in asked(monkeypatch, address).text
        monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
        monkeypatch.setattr(services, "find_node_ids", lambda: {"node"})
        assert asked(monkeypatch, address).state == OK
        monkeypatch.setattr(services, "find_node_ids", lambda: set())
        assert "no node on this machine" in asked(monkeypatch, address).text
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
        assert "does not have" in asked(monkeypatch, address).text


def test_auto_asks_the_cluster_that_ray_finds(monkeypatch):
    import ray
    from ray._private import services

    def none(address, *words):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", none)
    assert "finds no cluster" in asked(monkeypatch, "auto").text
    monkeypatch.setattr(services, "find_node_ids", lambda: {"node"})
    with head(ray.__version__) as address:
        monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda *words: address)
        assert asked(monkeypatch, "auto").state == OK and "every node can access" in cluster_address.check().text
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        assert cluster_address.check().state == WARN


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_none(text):
    found = cluster_address.parse(text)
    assert found is None or (found[0] and 0 < found[1] < 65536 and text.endswith(f":{found[1]}") or text[-5:].isdigit())


@pytest.mark.parametrize(("text", "pair"), [("head:6379", ("head", 6379)), ("10.0.0.1:1", ("10.0.0.1", 1)),
                                            ("[::1]:6379", ("::1", 6379)), ("[fe80::1%eth0]:9", ("fe80::1%eth0", 9))])
def test_addresses(text, pair):
    assert cluster_address.parse(text) == pair
