"""ray_cluster.yaml: valid for Ray's own schema and for a stricter one of ours. No cluster is ever started here."""

import copy
import re
import shlex
import subprocess
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.helpers.places import ROOT

FILE = ROOT / "ray_cluster.yaml"
TOKEN = "~/.ray/auth_token"
HOME = "~/dualpain"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Provider(Strict):
    type: Literal["aws"]
    region: str
    availability_zone: str
    cache_stopped_nodes: Literal[False]  # a stopped node keeps a disk that has seen recordings
    use_internal_ips: bool
    security_group: dict[Literal["GroupName"], str]  # no rules of ours: a rule is a hole


class Auth(Strict):
    ssh_user: str


class Disk(Strict):
    VolumeSize: int = Field(ge=100)  # environment, wheels and Ray's spilling
    VolumeType: str
    Encrypted: Literal[True]


class Mapping(Strict):
    DeviceName: str
    Ebs: Disk


class Machine(Strict):
    InstanceType: str
    ImageId: str = Field(pattern="^ami-")
    BlockDeviceMappings: list[Mapping]


class NodeType(Strict):
    resources: dict[str, int]
    node_config: Machine
    min_workers: int = Field(default=0, ge=0)
    max_workers: int = Field(default=0, ge=0)


class Cluster(Strict):
    """What this project promises about its cluster, beyond what Ray asks for."""

    cluster_name: str = Field(pattern="^[a-z0-9-]+$")
    max_workers: int = Field(ge=1)
    upscaling_speed: float
    idle_timeout_minutes: int = Field(ge=1)
    provider: Provider
    auth: Auth
    available_node_types: dict[str, NodeType]
    head_node_type: str
    file_mounts: dict[str, str]
    rsync_exclude: list[str]
    initialization_commands: list[str]
    setup_commands: list[str]
    head_setup_commands: list[str]
    worker_setup_commands: list[str]
    head_start_ray_commands: list[str]
    worker_start_ray_commands: list[str]

    @model_validator(mode="after")
    def _promises(self):
        (head,), (worker,) = (
            [c for c in commands if "ray start" in c] for commands in
            (self.head_start_ray_commands, self.worker_start_ray_commands))
        for command in (head, worker):
            if "RAY_AUTH_MODE=token" not in command or f"cd {HOME}" not in command or ".venv/bin/ray start" not in command:
                raise ValueError("Ray must be the environment's own, with token authentication")
        if "--dashboard-host=127.0.0.1" not in head:
            raise ValueError("the dashboard must answer on loopback alone")
        if not any("make install" in c for c in self.setup_commands):
            raise ValueError("nodes are set up by the Makefile's command")
        if self.file_mounts.get(TOKEN) != TOKEN:
            raise ValueError("every node needs the token")
        if "." in self.file_mounts.values():
            raise ValueError("the whole folder would send the environment and the store along")
        workers = [t for name, t in self.available_node_types.items() if name != self.head_node_type]
        if not any(t.min_workers >= 1 for t in workers):
            raise ValueError("a stage takes the GPUs that are there when it starts")
        return self


@pytest.fixture
def config() -> dict:
    return yaml.safe_load(FILE.read_text())


def ray_accepts(config: dict) -> dict:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it_and_would_run_our_commands(config):
    prepared = ray_accepts(config)
    for part in ("setup_commands", "initialization_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[part] == config[part]  # none of Ray's defaults, such as a dashboard on 0.0.0.0
    assert prepared["head_setup_commands"] == config["setup_commands"] + config["head_setup_commands"]


@pytest.mark.parametrize("spoil", [
    lambda c: c.update(unknown=1), lambda c: c.update(cluster_name=5), lambda c: c.update(max_workers="four"),
    lambda c: c.update(head_node_type="nobody"), lambda c: c["auth"].update(password="x"),
    lambda c: c["available_node_types"]["gpu_worker"].pop("node_config")])
def test_rays_schema_does_look(config, spoil):
    spoil(config)
    with pytest.raises(Exception):  # noqa: B017 - jsonschema's and Ray's own
        ray_accepts(config)


def test_our_schema_accepts_it(config):
    Cluster(**config)


@pytest.mark.parametrize(("part", "find", "put"), [
    ("head_start_ray_commands", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
    ("head_start_ray_commands", "RAY_AUTH_MODE=token ", ""), ("worker_start_ray_commands", "RAY_AUTH_MODE=token ", ""),
    ("worker_start_ray_commands", ".venv/bin/ray", "ray"), ("setup_commands", "make install", "pip install .")])
def test_our_schema_refuses_a_weaker_command(config, part, find, put):
    config[part] = [command.replace(find, put) for command in config[part]]
    ray_accepts(config)  # Ray would not have noticed
    with pytest.raises(ValidationError):
        Cluster(**config)


@pytest.mark.parametrize("spoil", [
    lambda c: c["file_mounts"].pop(TOKEN), lambda c: c["file_mounts"].update({"~/all": "."}),
    lambda c: c["provider"]["security_group"].update(IpPermissions=[]),
    lambda c: c["provider"].update(cache_stopped_nodes=True),
    lambda c: c["available_node_types"]["gpu_worker"].update(min_workers=0)])
def test_our_schema_refuses_a_weaker_cluster(config, spoil):
    spoil(config)
    ray_accepts(config)
    with pytest.raises(ValidationError):
        Cluster(**config)


def test_every_command_is_one_that_a_shell_can_read(config):
    for part, commands in config.items():
        if part.endswith("commands"):
            for command in commands:
                subprocess.run(["bash", "-n", "-c", command], check=True, capture_output=True)


@pytest.mark.parametrize("part", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_every_flag_of_ray_start_exists(config, part):
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    command = next(c for c in config[part] if "ray start" in c).partition("ray start")[2]
    flags = [word.partition("=")[0] for word in shlex.split(command)]
    assert flags and set(flags) <= known


def test_what_is_sent_is_what_an_installation_needs(config):
    mounts = config["file_mounts"]
    for remote, local in mounts.items():
        if local != TOKEN:
            assert (ROOT / local).exists() and remote == f"{HOME}/{local}"
    sent = set(mounts.values())
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.search(r"packages = \[(.*?)\]", project, re.S)[1]
    assert {name.split(".")[0] for name in re.findall(r'"([\w.]+)"', packages)} <= sent
    assert re.search(r'readme = "(.*?)"', project)[1] in sent
    for needed in ("Makefile", "pyproject.toml", "constraints.txt", ".ci"):
        assert needed in sent


def test_what_a_user_must_fill_in_is_marked(config):
    """Every placeholder in the values is announced by a comment with EDIT on its line or above it."""
    lines = FILE.read_text().splitlines()
    for number, line in enumerate(lines):
        code = line.partition("#")[0]
        if "EDIT" in code and "ImageId" in code:
            earlier = [other for other in lines[:number] if "# EDIT: Ubuntu" in other]
            assert earlier, line
        elif "EDIT" in code:
            assert any("# EDIT" in other for other in lines[max(0, number - 4) : number]), line
    assert "ami-EDIT" in FILE.read_text()  # no image of ours that ages


def test_no_address_of_the_world(config):
    text = "\n".join(line.partition("#")[0] for line in FILE.read_text().splitlines())
    assert "0.0.0.0" not in text and "::/0" not in text


def test_the_pages_commands_exist():
    """Every `ray` sub-command in docs/how-to/cluster.md, and every flag written with it."""
    from ray.scripts.scripts import cli

    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text()
    found = re.findall(r"\.venv/bin/ray ([a-z-]+)((?: +(?:--[a-z-]+|ray_cluster\.yaml))*)", page)
    assert len(found) >= 8
    for name, words in found:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert {word for word in words.split() if word.startswith("--")} <= known, name
