"""A graphed call equals the function it was made of."""

import pytest
import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels import GraphedCall


def test_calls_equal_the_function(device):
    call = GraphedCall(lambda a, b: (a @ b, a + 1), torch.ones(3, 3, device=device), torch.ones(3, 3, device=device))
    assert call.captured == (device.type == "cuda")
    for seed in range(3):
        torch.manual_seed(seed)
        a, b = torch.randn(2, 3, 3, device=device)
        product, more = call(a, b)
        torch.testing.assert_close(product, a @ b)
        torch.testing.assert_close(more, a + 1)


def test_other_shapes_are_refused(device):
    call = GraphedCall(lambda a: a + 1, torch.ones(3, device=device))
    with pytest.raises(InvalidInputError, match="captured for"):
        call(torch.ones(4, device=device))
