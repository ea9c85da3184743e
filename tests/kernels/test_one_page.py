"""The CPU's own way gives the numbers of the reference."""

import pytest
import torch

from ctxshaper.kernels import query_attention


@pytest.mark.parametrize("rows", [1, 3, 63])
@pytest.mark.parametrize("length", [1, 63, 500])
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("need_output", [True, False])
def test_one_page_is_the_reference(rows, length, group, need_output):
    torch.manual_seed(rows * length)
    kv_heads, dim = 2, 64
    heads = kv_heads * group
    q, own = torch.randn(rows, heads, dim), torch.randn(2, rows, kv_heads, dim)
    pages = torch.randn(2, 1, kv_heads, length + 7, dim)
    pages[:, :, :, length:] = float("nan")
    weights = torch.rand(rows, heads)
    weights[:, 0] = 0
    page = torch.zeros(1, dtype=torch.int32), torch.tensor([length], dtype=torch.int32)
    arguments = (q, *pages, *page, *own)
    options = {"mass_weights": weights, "need_output": need_output}
    with torch.inference_mode():
        out, lse, mass = query_attention(*arguments, **options)
        expected_out, expected_lse, expected_mass = query_attention(*arguments, **options, backend="torch")
    torch.testing.assert_close(mass, expected_mass, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lse[:, 1:], expected_lse[:, 1:], rtol=1e-4, atol=1e-5)
    if need_output:
        torch.testing.assert_close(out, expected_out, rtol=1e-4, atol=1e-5)
