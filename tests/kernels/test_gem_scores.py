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


@pytest.mark.parametrize("lengths", [[16, 1, 0, 0, 1, 16], [0, 0], [33], [3, 33, 33, 2]], ids=str)
def test_gem_pages(lengths, dtype, device):
    torch.manual_seed(0)
    slots, pages = max(16, max(lengths)), len(lengths) + 3
    q, k = torch.randn(1, 6, 64).to(device, dtype), torch.randn(pages, 2, slots, 64).to(device, dtype)
    ids, valid = torch.randperm(pages)[: len(lengths)].int(), torch.tensor(lengths, dtype=torch.int32)
    for page, length in zip(ids.tolist(), lengths, strict=True):
        k[page, :, length:] = float("nan")
    reference = gem_scores(q, k, ids.to(device), valid.to(device), backend="torch")
    keys = torch.cat([k[p, :, :n] for p, n in zip(ids.tolist(), lengths, strict=True)], 1)
    taken = (torch.arange(slots) < valid[:, None]).flatten()
    assert brute.error(reference.cpu()[taken], brute.gem_scores(q.cpu(), keys.cpu())) < 1e-5
    assert not reference.cpu()[~taken].any()
    pytest.importorskip("triton", reason="triton is not installed: pip install 'ctxshaper[gpu]'")
    assert brute.error(gem_scores(q, k, ids.to(device), valid.to(device), backend="triton"), reference) < 1e-5


def test_wrong_options_say_what_is_allowed():
    with pytest.raises(InvalidInputError, match="needed"):
        gem_scores(torch.ones(1, 2, 16), torch.ones(1, 2, 3, 16))
    with pytest.raises(InvalidInputError, match="multiple of KV"):
        gem_scores(torch.ones(1, 3, 16), torch.ones(2, 3, 16))
