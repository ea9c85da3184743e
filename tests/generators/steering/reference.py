"""What a steered layer took in and gave out, and the attention that it should have been, row by row in numpy."""

from dataclasses import dataclass, field

import numpy as np

from ctxshaper.generators.steering import ContextualHead, SteeringProfile

# (layer, query head); 4 layers of 4 heads, two to a key head.
HEADS = [(0, 1), (1, 0), (1, 3), (3, 2)]


def profile(name, width=16, heads=HEADS):
    random = np.random.default_rng(5)
    found = (ContextualHead(i, h, 0.5 - 0.1 * n, tuple(random.normal(size=width))) for n, (i, h) in enumerate(heads))
    return SteeringProfile(name, tuple(found))


@dataclass
class Watched:
    """A steering that keeps what each layer was given and gave."""

    steering: object
    calls: list = field(default_factory=list)

    @property
    def copies(self):
        return self.steering.copies

    def mixed(self, logprobs):
        return self.steering.mixed(logprobs)

    def attend(self, batch, module, q, k, v, mask, options):
        taken = [x.double().numpy().copy() for x in (q, k, v)]
        out = self.steering.attend(batch, module, q, k, v, mask, options)
        given = None if out is None else out.double().numpy()
        self.calls.append((module.layer_idx, batch, *taken, options["scaling"], given))
        return out


def rows_of(call):
    """Each row of a call without its padding: q [H, Q, D], k, v [H, K, D], marks [K], prompt's length, output."""
    _, batch, q, k, v, _, out = call
    for row in range(len(q)):
        start = int(batch.starts[row])
        keys = k.shape[2] - start
        queries = min(q.shape[2], keys)
        group = q.shape[1] // k.shape[1]
        marks = np.zeros(keys, dtype=bool)
        own = batch.marked[row].numpy()[start : start + keys]
        marks[: len(own)] = own
        k_row, v_row = (np.repeat(x[row], group, 0)[:, start:] for x in (k, v))
        prompt = int(batch.ends[row] - batch.starts[row])
        yield q[row][:, -queries:], k_row, v_row, marks, prompt, out[row].transpose(1, 0, 2)[:, -queries:]


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()
