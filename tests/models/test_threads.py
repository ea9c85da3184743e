"""Threads: quotas of containers are seen, and whoever has chosen is left alone."""

import pytest
import torch

from ctxshaper import InvalidInputError
from ctxshaper.models import threads
from ctxshaper.models.threads import chosen_threads, cpu_quota, fit_threads


def groups(tmp_path, membership, **files):
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "self").write_text(membership)
    return tmp_path / "cgroup", tmp_path / "self"


@pytest.mark.parametrize(
    ("membership", "files", "wanted"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3.0),  # the group around it
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "150000 100000"}, 1.5),
        ("0::/../../x\n", {"cpu.max": "400000 100000"}, 4.0),
        ("4:cpu,cpuacct:/docker/f00\n", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        ("4:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, None),
        ("5:memory:/\n", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        ("0::/\n", {"cpu.max": "no numbers here"}, None),
        ("", {}, None),
    ],
)
def test_quotas_of_both_versions(tmp_path, membership, files, wanted):
    assert cpu_quota(*groups(tmp_path, membership, **files)) == wanted


@pytest.fixture
def machine(monkeypatch):
    """A machine of 64 cores whose torch has taken them all."""
    for name in (threads.VARIABLE, "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    state = {"threads": 64, "quota": 4.0}
    monkeypatch.setattr(threads, "_fitted", False)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(threads, "_usable_cores", lambda: 64)
    monkeypatch.setattr(threads, "cpu_quota", lambda: state["quota"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: state["threads"])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: state.update(threads=number))
    return state


@pytest.mark.parametrize(("quota", "wanted"), [(4.0, 4), (1.5, 1), (0.5, 1), (None, 64), (100.0, 64)])
@pytest.mark.parametrize("own", [64, 32])
def test_a_quota_bounds_torchs_own_choice(machine, quota, wanted, own):
    machine.update(threads=own, quota=quota)
    fit_threads()
    assert machine["threads"] == min(wanted, own)


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_variables_of_openmp_and_mkl_stand(machine, monkeypatch, name):
    monkeypatch.setenv(name, "64")
    fit_threads()
    assert machine["threads"] == 64
    assert name in chosen_threads().reason


def test_a_call_of_set_num_threads_stands_before_and_after(machine):
    machine["threads"] = 7
    fit_threads()
    assert machine["threads"] == 7
    machine["threads"] = 64
    fit_threads()  # once a process
    assert machine["threads"] == 64


def test_the_projects_own_variable_outranks_all(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv(threads.VARIABLE, "3")
    fit_threads()
    assert machine["threads"] == 3


@pytest.mark.parametrize("bad", ["0", "-1", "many", "1.5"])
def test_a_bad_number_is_refused(machine, monkeypatch, bad):
    monkeypatch.setenv(threads.VARIABLE, bad)
    with pytest.raises(InvalidInputError, match="CTXSHAPER_THREADS must be a number of at least 1"):
        fit_threads()


def test_loading_a_model_fits_the_threads(machine, tiny_model):
    from tests.reading.test_reader import tiny_reader

    reader = tiny_reader(tiny_model("llama"))
    assert machine["threads"] == 64
    assert reader.decoder
    assert machine["threads"] == 4
