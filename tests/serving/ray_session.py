"""A small Ray cluster on this machine, for the tests of Ray; skips where Ray is not installed."""

import os

import pytest

# Of Ray's own processes, which inherit them: no reports to its makers, and of a container's cores those that are there.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_USE_MULTIPROCESSING_CPU_COUNT", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# It lasts for the tests, on this machine alone; a token would be written into the user's home.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
# Actors that share two cores: more threads each only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ctxshaper[ray]'")


def started():
    """Start it once a process, and give its address."""
    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    return ray.get_runtime_context().gcs_address
