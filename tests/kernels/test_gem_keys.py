"""gem_key_scores: passages in an arena score as each does by itself."""

import brute
import pytest
import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels import KeyRanges, gem_key_scores
from ctxshaper.reading.keys import quantise

LENGTHS = [[1], [63, 2, 500], [0, 3, 0], [3000, 1, 2000], []]


def arena(lengths, dtype, device, slots=5, dim=64):
    """Keys with gaps between passages that hold what must never be used."""
    torch.manual_seed(0)
    starts = [7 + sum(lengths[:n]) + 5 * n for n in range(len(lengths))]
    keys = torch.full((slots, sum(lengths) + 5 * len(lengths) + 9, dim), torch.nan)
    for start, length in zip(starts, lengths, strict=True):
        keys[:, start : start + length] = torch.randn(slots, length, dim)
    scales = None
    if dtype == torch.int8:
        unused = keys.isnan()
        keys, scales = quantise(keys.nan_to_num(0))
        keys[unused] = 77
        scales[unused[..., 0]] = torch.nan
    else:
        keys = keys.to(dtype)
    order = list(reversed(range(len(lengths))))  # not that of the arena
    ranges = KeyRanges([(starts[n], lengths[n]) for n in order])
    return keys.to(device), None if scales is None else scales.to(device), ranges, [lengths[n] for n in order], starts


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("kind", [torch.int8, torch.bfloat16])
def test_each_passage_scores_as_by_itself(lengths, kind, device):
    keys, scales, ranges, ordered, starts = arena(lengths, kind, device)
    q = torch.randn(6, 64, device=device)
    got = gem_key_scores(q, [1, 4], keys, scales, ranges, ordered)
    wide = keys.float() if scales is None else keys.float() * scales[..., None].float()
    expected = [
        brute.gem_scores(q[None].cpu(), wide[[1, 4], start : start + length].cpu())
        for start, length in zip(reversed(starts), ordered, strict=True)
    ]
    assert brute.error(got, torch.cat(expected) if expected else torch.zeros(0)) < 1e-5


def test_wrong_shapes_say_what_is_needed(device):
    keys, scales, ranges, ordered, _ = arena([3, 4], torch.int8, device)
    with pytest.raises(InvalidInputError, match="multiple of the slots"):
        gem_key_scores(torch.ones(5, 64), [0, 1], keys, scales, ranges, ordered)
    with pytest.raises(InvalidInputError, match="as many tokens"):
        gem_key_scores(torch.ones(4, 64), [0, 1], keys, scales, ranges, ordered[:1])
