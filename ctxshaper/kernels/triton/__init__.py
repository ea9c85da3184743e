"""Triton kernels, one file an operation. Imported only when an operation is dispatched to them."""
