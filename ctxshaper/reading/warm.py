"""Queries over remembered passages, replayed as CUDA graphs: launched one by one, the host is slower than the GPU."""

from __future__ import annotations

from collections import Counter, OrderedDict

import torch
from torch import Tensor

from ctxshaper.kernels import GraphedCall
from ctxshaper.models.decoder import Decoder
from ctxshaper.reading.attention import AskMemories
from ctxshaper.reading.locks import ForkSafeLock
from ctxshaper.reading.memory import Held

_ROWS = 16
_PAGES = 64
_GRAPHS = 8
# A capture costs some ten queries: only a shape that returns is worth one.
_SEEN = 3


class WarmQueries:
    """Asks a query of passages in a pool; shapes that return are captured once and replayed.

    Rows are padded to a multiple of 16 behind the query, where no counted row sees them; pages to the next size with
    empty ones.

    Args:
        decoder: the layers.
        weights: by layer, [H] float32 weights of the heads that count.
        end: the query's first position.
    """

    def __init__(self, decoder: Decoder, weights: dict[int, Tensor], end: int) -> None:
        self._decoder, self._weights, self._end = decoder, weights, end
        self._seen: Counter[tuple[int, int]] = Counter()
        self._graphs: OrderedDict[tuple[int, int], GraphedCall[Tensor]] = OrderedDict()
        self._lock = ForkSafeLock()

    def ask(self, ids: list[int], rows: list[int], held: Held) -> Tensor:
        """[P * S] float32 attention mass on the host.

        Args:
            ids: tokens of the query in its frame.
            rows: those that count.
            held: memories in a pool.
        """
        count = -(-len(ids) // _ROWS) * _ROWS
        pages = len(held.page_ids)
        # Steps of an eighth of the power of two below: at most an eighth of the pages is empty.
        step = max(_PAGES, 2 ** (pages.bit_length() - 4))
        padding = -pages % step
        row_weights = torch.zeros(count)
        row_weights[rows] = 1 / len(rows)
        device = held.page_ids.device
        inputs = (
            torch.tensor([ids + [ids[-1]] * (count - len(ids))], device=device),
            row_weights.to(device),
            torch.nn.functional.pad(held.page_ids, (0, padding)),
            torch.nn.functional.pad(held.page_lengths, (0, padding)),
        )
        with self._lock:
            call = self._captured(held, inputs)
            mass = call(*inputs) if call is not None else self._ask(held, *inputs)
            return mass[: pages * held.keys[0].shape[2]].cpu()

    def _captured(self, held: Held, inputs: tuple[Tensor, ...]) -> GraphedCall[Tensor] | None:
        name = (inputs[0].shape[1], len(inputs[2]))
        self._seen[name] += 1
        if self._seen[name] < _SEEN:
            return None
        if name not in self._graphs:
            self._graphs[name] = GraphedCall(lambda *new: self._ask(held, *new), *inputs)
            if len(self._graphs) > _GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(name)
        return self._graphs[name]

    @torch.inference_mode()
    def _ask(self, held: Held, ids: Tensor, row_weights: Tensor, page_ids: Tensor, page_lengths: Tensor) -> Tensor:
        weights = {layer: row_weights[:, None] * of_heads for layer, of_heads in self._weights.items()}
        call = AskMemories(Held(held.keys, held.values, page_ids, page_lengths, {}), weights, finite=True)
        positions = torch.arange(self._end, self._end + ids.shape[1], device=ids.device)[None]
        self._decoder.forward(ids, positions, call)
        assert call.mass is not None  # noqa: S101  # a profile has a head, and its layer is read
        return call.mass
