"""Which backend runs, and what is said when it cannot."""

import logging
import subprocess
import sys

import pytest
import torch

from ctxshaper.errors import InvalidInputError, MissingDependencyError
from ctxshaper.kernels import dispatch


def test_argument_outranks_variable_outranks_auto(monkeypatch):
    assert dispatch.requested_backend() == "auto"
    monkeypatch.setenv(dispatch.VARIABLE, "torch")
    assert dispatch.requested_backend() == "torch"
    assert dispatch.requested_backend("triton") == "triton"


def test_unknown_names_say_where_they_came_from(monkeypatch):
    with pytest.raises(InvalidInputError, match="backend is 'cuda'; allowed are 'auto', 'torch', 'triton'"):
        dispatch.requested_backend("cuda")
    monkeypatch.setenv(dispatch.VARIABLE, "gpu")
    with pytest.raises(InvalidInputError, match="CTXSHAPER_KERNELS is 'gpu'"):
        dispatch.requested_backend()


def test_cpu_tensors_take_the_reference_by_themselves():
    assert not dispatch.use_triton("op", "auto", None, torch.zeros(1))


def test_a_kernel_asked_for_by_name_is_never_replaced(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed: pip install 'ctxshaper[gpu]'")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(InvalidInputError, match="because of this"):
        dispatch.use_triton("op", "triton", "because of this", torch.zeros(1))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(InvalidInputError, match="Move the tensors"):
        dispatch.use_triton("op", "triton", None, torch.zeros(1, device="cpu"))


def test_missing_triton_names_the_install_line(monkeypatch):
    monkeypatch.setattr(dispatch, "_triton_installed", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ctxshaper\[gpu\]'"):
        dispatch.use_triton("op", "triton", None, torch.zeros(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: falls back from a CUDA tensor")
def test_fall_back_is_logged_once(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert not dispatch.use_triton("op", "auto", "reason of this test", torch.zeros(1, device="cuda"))
    assert len([r for r in caplog.records if "reason of this test" in r.message]) == 1


def test_reasons():
    half = torch.zeros(1, dtype=torch.float16)
    assert dispatch.half_precision_reason(half, half) is None
    assert "float32" in dispatch.half_precision_reason(half, torch.zeros(1))
    assert "differ" in dispatch.half_precision_reason(half, half.bfloat16())
    assert dispatch.head_dim_reason(80) is None
    assert "264" in dispatch.head_dim_reason(264)
    assert "72" in dispatch.head_dim_reason(72)


@pytest.mark.parametrize(("module", "absent"), [("ctxshaper", "torch"), ("ctxshaper.kernels", "triton")])
def test_importing_is_light(module, absent):
    code = f"import sys, {module}; sys.exit('{absent}' in sys.modules and '{absent}')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
