"""Resources within affinity masks and control groups of both versions, written as files."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing import allotment
from preprocessing.allotment import memory_bytes, processes_left, usable_cores

GB = 1 << 30


@pytest.fixture
def many(monkeypatch):
    """A machine of 16 cores and 64 GB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    real = os.sysconf
    known = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GB // 4096, "SC_AVPHYS_PAGES": 60 * GB // 4096}
    monkeypatch.setattr(os, "sysconf", lambda name: known.get(name, real(name) if name not in known else 0))


def group(place: Path, line: str, **files: str) -> tuple[Path, Path]:
    """(own groups, mount): files are written as folder__name=text, below the mount; `_` in names stands for itself."""
    own, mount = place / "cgroup", place / "mount"
    own.write_text(line + "\n")
    for path, text in files.items():
        target = mount / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")
    return own, mount


@pytest.mark.parametrize(("line", "files", "cores"), [
    ("0::/", {"cpu.max": "200000 100000"}, 2),  # docker run --cpus=2
    ("0::/", {"cpu.max": "150000 100000"}, 1),  # 1.5
    ("0::/", {"cpu.max": "50000 100000"}, 1),  # half a core is one worker
    ("0::/", {"cpu.max": "max 100000"}, 16),
    ("0::/slurm/job_7/step", {"slurm/job_7/cpu.max": "400000 100000", "slurm/job_7/step/cpu.max": "max 100000"}, 4),  # above
    ("0::/host/path/of/docker", {"cpu.max": "300000 100000"}, 3),  # in a container: the path of the host does not exist
    ("4:cpu,cpuacct:/docker/x", {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000",
                                 "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000"}, 2),
    ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
    ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "700000", "cpu/cpu.cfs_period_us": "100000"}, 7),
    ("4:memory:/\n0::/", {"unified/cpu.max": "500000 100000"}, 5),  # both versions mounted
    ("0::/", {"cpu.max": "nonsense"}, 16), ("0::/", {"cpu.max": ""}, 16), ("garbage", {}, 16)])
def test_a_quota_counts_as_cores(tmp_path, many, line, files, cores):
    assert usable_cores(None, *group(tmp_path, line, **files)) == cores


def test_the_smallest_limit_counts(tmp_path, many, monkeypatch):
    place = group(tmp_path, "0::/", **{"cpu.max": "600000 100000"})
    assert [usable_cores(wanted, *place) for wanted in (None, 2, 6, 64)] == [6, 2, 6, 6]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 9})
    assert [usable_cores(wanted, *place) for wanted in (None, 1, 64)] == [2, 1, 2]
    assert usable_cores(None, tmp_path / "no", tmp_path / "no") == 2  # no control groups at all


def test_without_affinity_the_machine_counts(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(None, tmp_path, tmp_path) == 1


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0.01, 64)), max_size=4), st.one_of(st.none(), st.integers(1, 200)),
       st.integers(1, 64))
def test_never_more_than_any_limit_and_never_none(tmp_path_factory, quotas, wanted, mask):
    place = tmp_path_factory.mktemp("groups")
    files, path = {}, ""
    for depth, quota in enumerate(quotas):
        path += f"g{depth}/"
        files[f"{path}cpu.max"] = "max 100000" if quota is None else f"{int(quota * 100000)} 100000"
    own = group(place, f"0::/{path}", **files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda pid: set(range(mask)), raising=False)
        found = usable_cores(wanted, *own)
    limits = [mask, *(max(1, int(int(q * 100000) / 100000)) for q in quotas if q is not None), *([wanted] if wanted else [])]
    assert found == max(1, min(limits))


@pytest.mark.parametrize(("line", "files", "total", "available"), [
    ("0::/", {"memory.max": str(8 * GB), "memory.current": str(3 * GB)}, 8 * GB, 5 * GB),
    ("0::/a/b", {"a/memory.max": str(4 * GB), "a/memory.current": str(4 * GB), "a/b/memory.max": "max",
                 "a/memory.stat": f"anon 5\ninactive_file {GB}"}, 4 * GB, GB),
    ("9:memory:/x", {"memory/x/memory.limit_in_bytes": str(2 * GB), "memory/x/memory.usage_in_bytes": str(GB),
                     "memory/x/memory.stat": f"cache 7\ntotal_inactive_file {GB // 2}"}, 2 * GB, 3 * GB // 2),
    ("9:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 64 * GB, None),  # version 1's "no limit"
    ("0::/", {"memory.max": "max"}, 64 * GB, None)])
def test_memory_within_a_control_group(tmp_path, many, line, files, total, available):
    found = memory_bytes(*group(tmp_path, line, **files))
    assert found[0] == total and (available is None or found[1] == available or found[1] < available)
    if available is not None:  # this machine's own free memory may be less still
        assert found[1] <= available


def test_processes_left(tmp_path):
    assert processes_left(*group(tmp_path, "0::/a", **{"a/pids.max": "100", "a/pids.current": "30", "pids.max": "max"})) == 70
    other = tmp_path / "other"
    other.mkdir()
    assert processes_left(*group(other, "8:pids:/", **{"pids/pids.max": "10", "pids/pids.current": "30"})) == 0
    assert processes_left(tmp_path / "none", tmp_path / "none") is None


def test_this_process(tmp_path):
    """A mask that is really set is respected."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity here")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == usable_cores(64) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert allotment.memory_bytes()[0] > 0
