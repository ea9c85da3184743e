"""Each method against its formula, written row by row in numpy over the queries and keys that a layer was given."""

import numpy as np
import pytest
import torch

from ctxshaper import InvalidInputError, LanguageModel, Span
from ctxshaper.data import Marked
from ctxshaper.generators.steering import ACT, PASTA, AttentionBuckets, FocusDirections, ZeroTuning
from ctxshaper.generators.steering.attention_buckets import interlocking
from tests.generators.steering.reference import HEADS, Watched, profile, rows_of, softmax

# Of different lengths, so that a batch is padded; marks in the middle, with characters of several tokens.
LONG = (
    "Turm 塔 🗼. "
    + Marked("Ada built the 🗼 in 1894, they say.", [Span(0, 17), Span(25, 28)])
    + " Who built it, and when?"
)
PAIRS = [(LONG, "It was Ada."), ("Say " + Marked("yes", [Span(0, 3)]), "Yes, yes")]


@pytest.fixture(scope="module")
def model(tiny_model):
    torch.set_num_threads(1)
    return LanguageModel(tiny_model("llama"), dtype="float32", device="cpu")


def watched(model, steering):
    found = Watched(steering.resolved(model.name, model.layers, model.heads))
    model.logprobs_batch(PAIRS, steering=found)
    model.generate_batch([prompt for prompt, _ in PAIRS], max_new_tokens=3, steering=found)
    assert len(found.calls) == 4 * (1 + 3)
    return found.calls


def check(calls, formula):
    """Every row of every chosen layer is what the formula says, and of the other heads plain attention."""
    compared = 0
    for call in calls:
        layer, scale, given = call[0], call[5], call[6]
        chosen = [head for of, head in HEADS if of == layer]
        if not chosen:
            assert given is None
            continue
        for q, k, v, marks, prompt, out in rows_of(call):
            scores = np.einsum("hqd,hkd->hqk", q, k) * scale
            for head in range(q.shape[0]):
                expected = plain = np.zeros((q.shape[1], k.shape[1]))
                for i in range(q.shape[1]):
                    seen = k.shape[1] - q.shape[1] + i + 1
                    plain[i, :seen] = softmax(scores[head, i, :seen])
                if head in chosen:
                    expected = formula(layer, head, q[head], k[head], scale, plain, marks, prompt)
                    compared += 1
                np.testing.assert_allclose(out[head], expected @ v[head], rtol=1e-3, atol=1e-4)
    assert compared > 20


def test_pasta(model):
    def formula(layer, head, q, k, scale, plain, marks, prompt):
        lowered = plain * np.where(marks, 1, 0.05)
        assert marks.any()
        return lowered / lowered.sum(1, keepdims=True)

    check(watched(model, PASTA(profile=profile(model.name), alpha=0.05)), formula)


def test_zero_tuning(model):
    def formula(layer, head, q, k, scale, plain, marks, prompt):
        changed = plain.copy()
        changed[:, 0] *= 0.3
        return changed / changed.sum(1, keepdims=True)

    check(watched(model, ZeroTuning(profile=profile(model.name), rate=0.3)), formula)


def test_focus_directions(model):
    found = profile(model.name)
    directions = {(head.layer, head.head): np.array(head.direction) for head in found.heads}

    def formula(layer, head, q, k, scale, plain, marks, prompt):
        scores = (q + 0.7 * directions[layer, head]) @ k.T * scale
        later = np.arange(len(k)) > np.arange(len(k) - len(q), len(k))[:, None]
        return np.stack([softmax(row) for row in np.where(later, -1e9, scores)])

    check(watched(model, FocusDirections(profile=found, factor=0.7)), formula)


def test_act(model):
    sinks_found = 0

    def formula(layer, head, q, k, scale, plain, marks, prompt):
        nonlocal sinks_found
        if len(q) == 1:
            return plain
        received = [plain[j:prompt, j].mean() for j in range(prompt)]
        sinks = [j for j in range(prompt) if received[j] > 1.2 / prompt]
        changed = plain.copy()
        for i in range(prompt):
            taken = [j for j in sinks[1:] if j <= i]
            others = [j for j in range(i + 1) if j not in sinks]
            room = plain[i, others].sum()
            if room > 1e-12:
                freed = 0.75 * plain[i, taken].sum()
                changed[i, taken] *= 0.25
                changed[i, others] *= 1 + freed / room
                sinks_found += len(taken)
        return changed

    check(watched(model, ACT(profile=profile(model.name), beta=0.25, threshold=1.2)), formula)
    assert sinks_found > 20


def test_attention_buckets_turn_by_other_bases(model):
    calls = watched(model, AttentionBuckets(copies=3))
    bases = interlocking(10_000.0, 16, 3)
    assert bases[0] == 10_000.0
    assert len(set(bases)) == 3
    for call in calls:
        rows = list(rows_of(call))
        assert len(rows) == 3 * len(PAIRS)
        for number, (q, k, v, _, _, out) in enumerate(rows):
            base = bases[number // len(PAIRS)]
            # Back to what stood before rotary, and on by the other base.
            at = np.arange(k.shape[1])
            turned_q = turn(turn(q, at[-q.shape[1] :], 10_000.0, -1), at[-q.shape[1] :], base, 1)
            turned_k = turn(turn(k, at, 10_000.0, -1), at, base, 1)
            scores = np.einsum("hqd,hkd->hqk", turned_q, turned_k) * call[5]
            later = at > at[-q.shape[1] :, None]
            weights = [[softmax(row) for row in head] for head in np.where(later, -1e9, scores)]
            np.testing.assert_allclose(out, np.array(weights) @ v, rtol=1e-3, atol=1e-3)


def turn(x, positions, base, sign):
    """[H, T, D] rotated by plain RoPE, halves as pairs."""
    half = x.shape[-1] // 2
    angles = sign * positions[:, None] * base ** -(np.arange(half) / half)
    pairs = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([pairs.real, pairs.imag], -1)


def test_attention_buckets_mix_by_confidence():
    likely = np.array([[[0.7, 0.2, 0.1]], [[0.1, 0.4, 0.5]]])
    mixed = AttentionBuckets(copies=2).mixed(torch.from_numpy(np.log(likely))).exp().numpy()
    np.testing.assert_allclose(mixed, (0.7 * likely[0] + 0.5 * likely[1]) / 1.2)
    assert mixed.sum() == pytest.approx(1)


def test_interlocking_bases_fill_troughs_better_than_neighbours():
    def filled(bases):
        powers = np.arange(0, 64, 2) / 64
        return np.cos(np.arange(2048)[:, None, None] * np.array(bases)[:, None] ** -powers).mean(-1).max(1).mean()

    bases = interlocking(100_000.0, 64, 3)
    assert filled(bases) >= filled([100_000.0, 105_000.0, 110_000.0])
    assert filled(bases) > filled([100_000.0])


def test_only_so_many_heads_are_steered(model):
    calls = watched(model, PASTA(profile=profile(model.name), top=1))
    assert {call[0] for call in calls if call[6] is not None} == {0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: PASTA(alpha=0),
        lambda: PASTA(alpha=1.5),
        lambda: PASTA(top=0),
        lambda: ZeroTuning(rate=-1),
        lambda: ZeroTuning(rate=float("nan")),
        lambda: ACT(beta=2),
        lambda: ACT(threshold=0),
        lambda: FocusDirections(factor=float("inf")),
        lambda: AttentionBuckets(copies=1),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(InvalidInputError, match="must"):
        make()
