"""Pieces of softmax that the attention kernels share; exponentials are powers of two, logarithms to base 2."""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def logits(s, scale, softcap, HAS_CAP: tl.constexpr):
    """Logits of products s, up to the factor that `unit_of` returns (so that factor and shift are one instruction)."""
    if HAS_CAP:
        # tanh(x) = 1 - 2 / (exp(2x) + 1): right at both ends, where exp overflows or vanishes.
        s = softcap * (1.0 - 2.0 / (tl.exp2(s * (scale / softcap * 2.0 * LOG2E)) + 1.0))
    return s


@triton.jit
def unit_of(scale, HAS_CAP: tl.constexpr):
    """The factor from `logits` to logarithms to base 2."""
    return LOG2E if HAS_CAP else scale * LOG2E


@triton.jit
def softmax_step(s, unit, m, l):
    """One online-softmax step: new maximum (base 2), rescale factor, unnormalised probabilities, their sum."""
    m_new = tl.maximum(m, tl.max(s, 1) * unit)
    # A row that has seen no valid key keeps -inf; subtracting -inf from -inf would be NaN.
    shift = tl.where(m_new == -float("inf"), 0.0, m_new)
    alpha = tl.exp2(m - shift)
    p = tl.exp2(s * unit - shift[:, None])
    return m_new, alpha, p, l * alpha + tl.sum(p, 1)
