"""Writing keys and values into pages."""

import pytest
import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels import page_write


@pytest.mark.usefixtures("triton_kernels")
@pytest.mark.parametrize(("tokens", "dim", "slots"), [(1, 64, 16), (63, 80, 33), (0, 64, 16), (40, 128, 16)])
def test_kernel_equals_reference(tokens, dim, slots, device):
    torch.manual_seed(0)
    keys = torch.randn(tokens, 3, dim).to(device, torch.float16).transpose(0, 1)
    values = torch.randn(3, dim, tokens).to(device, torch.float16).transpose(1, 2)
    places = torch.randperm(5 * slots)[:tokens].to(device)
    one, other = (torch.zeros(2, 5, 3, slots, dim, dtype=torch.float16, device=device) for _ in range(2))
    page_write(*one, places, keys, values, backend="triton")
    page_write(*other, places, keys, values, backend="torch")
    assert torch.equal(one, other)
    assert torch.equal(other[0].transpose(1, 2).flatten(0, 1)[places], keys.transpose(0, 1))


def test_wrong_shapes_say_what_is_needed():
    pages = torch.zeros(2, 3, 4, 16)
    with pytest.raises(InvalidInputError, match=r"needed is \[3, 2, 16\]"):
        page_write(pages, pages, torch.zeros(2, dtype=torch.long), torch.zeros(3, 1, 16), torch.zeros(3, 2, 16))
