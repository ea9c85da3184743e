"""gem_scores: definition, reference, kernel."""

import brute
import pytest
import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels import gem_scores

GPU = torch.cuda.is_available()
# H, KV, D, T
DENSE = [(1, 1, 64, 1), (6, 2, 80, 63), (8, 1, 96, 500), (5, 5, 128, 130), (12, 2, 256, 4)]
DENSE += [(20, 1, 64, 5003), (32, 8, 128, 5003)] if GPU else []


@pytest.mark.parametrize("shape", DENSE, ids=str)
def test_gem_dense(shape, dtype, device):
    heads, kv_heads, dim, tokens = shape
    torch.manual_seed(0)
    q, k = torch.randn(2, heads, dim).to(device, dtype), torch.randn(kv_heads, tokens, dim).to(device, dtype)
    reference = gem_scores(q, k, backend="torch")
    assert brute.error(reference, brute.gem_scores(q.cpu(), k.cpu())) < 1e-5
    pytest.importorskip("triton", reason="triton is not installed: pip install 'ctxshaper[gpu]'")
    assert brute.error(gem_scores(q, k, backend="triton"), reference) < 1e-5


def test_wrong_options_say_what_is_allowed():
    with pytest.raises(InvalidInputError, match="needed"):
        gem_scores(torch.ones(1, 2, 16), torch.ones(2, 3, 8))
    with pytest.raises(InvalidInputError, match="multiple of KV"):
        gem_scores(torch.ones(1, 3, 16), torch.ones(2, 3, 16))
