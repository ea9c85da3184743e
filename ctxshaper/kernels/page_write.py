"""Copy the keys and values of tokens into the pages of a pool.

Token t goes to page ``places[t] // S``, slot ``places[t] % S``, for S slots a page.
"""

from torch import Tensor

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.dispatch import Backend, use_triton


def page_write(
    k_pages: Tensor, v_pages: Tensor, places: Tensor, keys: Tensor, values: Tensor, *, backend: Backend = "auto"
) -> None:
    """Write keys and values in place.

    Args:
        k_pages: [N, KV, S, D] pages of keys, contiguous.
        v_pages: [N, KV, S, D] pages of values, contiguous.
        places: [T] int64, page * S + slot of each token, each at most once.
        keys: [KV, T, D], any strides.
        values: [KV, T, D], any strides.
        backend: see `ctxshaper.kernels.dispatch`.

    Raises:
        InvalidInputError: shapes that do not fit together, or a kernel asked for by name that cannot take them.
    """
    kv_heads, dim = k_pages.shape[1], k_pages.shape[3]
    expected = (kv_heads, places.numel(), dim)
    if keys.shape != expected or values.shape != expected or v_pages.shape != k_pages.shape:
        raise InvalidInputError(
            f"keys are {list(keys.shape)}, values {list(values.shape)}; needed is {list(expected)} for pages "
            f"{list(k_pages.shape)}."
        )
    fits = k_pages.is_contiguous() and v_pages.is_contiguous()
    if use_triton("page_write", backend, None if fits else "the pages are not contiguous", keys):
        from ctxshaper.kernels.triton import page_write as kernel

        kernel.page_write(k_pages, v_pages, places, keys, values)
    else:
        reference(k_pages, v_pages, places, keys, values)


def reference(k_pages: Tensor, v_pages: Tensor, places: Tensor, keys: Tensor, values: Tensor) -> None:
    """Write keys and values in plain torch."""
    slots = k_pages.shape[2]
    page, slot = places // slots, places % slots
    for pages, new in ((k_pages, keys), (v_pages, values)):
        pages.transpose(1, 2)[page, slot] = new.transpose(0, 1).to(pages.dtype)
