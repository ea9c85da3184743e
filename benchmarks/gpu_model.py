"""A Llama-3.1-8B-shaped stack with random weights: reads passages into a pool, answers warm queries from it.

The model is transformers' own; the kernels enter through its `AttentionInterface`, as the reader's do.
"""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from ctxshaper.kernels import GraphedCall, passage_attention, query_attention, query_attention_batch, segment_reduce
from ctxshaper.reading.pool import PagedPool, PageRun

HEADS, KV_HEADS, DIM, LAYERS, PREFIX = 32, 8, 128, 14, 10
ROWS = 32
# Eight heads in four layers, two KV groups of each: what a head profile looks like.
COUNTED = {3: (5, 22), 7: (1, 30), 9: (12, 17), 13: (0, 9)}


class LayersRead(Exception):  # noqa: N818
    """Leaves the model inside its last layer: memories hold keys and values, and nothing reads what would follow."""


def build(device: str = "cuda") -> torch.nn.Module:
    """Make the model: 14 layers, bf16, random weights, the kernels registered as its attention."""
    from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaModel

    for name, function in (("bench_read", _read), ("bench_ask", _ask)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, lambda *_, **__: None)
    config = LlamaConfig(
        hidden_size=HEADS * DIM, intermediate_size=14336, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, vocab_size=32_000, rope_theta=5e5, max_position_embeddings=131_072,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaModel(config).eval()
    torch.set_default_dtype(default)
    return model


@torch.compiler.disable
def _read(module, q, k, v, _mask, scaling=None, job=None, **_):  # noqa: ANN001, ANN003, ANN202
    layer = module.layer_idx
    job.pool.write(layer, job.places, k[0], v[0])
    if layer == job.last:
        raise LayersRead
    out = passage_attention(q[0], k[0], v[0], job.offsets, job.prefix_k[layer], job.prefix_v[layer], scale=scaling)
    return out[None], None


@torch.compiler.disable
def _ask(module, q, k, v, _mask, scaling=None, job=None, **_):  # noqa: ANN001, ANN003, ANN202
    layer = module.layer_idx
    last = layer == job.last
    rows = (q[0].transpose(0, 1), job.pool.keys[layer], job.pool.values[layer], job.ids, job.lengths)
    own = (k[0].transpose(0, 1), v[0].transpose(0, 1))
    options = {"scale": scaling, "mass_weights": job.weights.get(layer), "finite": True, "need_output": not last}
    attend = query_attention_batch if job.batch else query_attention
    out, _, mass = attend(*rows, *own, **options, **job.batch)
    if mass is not None:
        job.mass.add_(mass)
    if last:
        raise LayersRead
    return out[None], None


class FirstLook:
    """Reads passages of equal length, chunk by chunk, into a pool."""

    def __init__(
        self,
        model: torch.nn.Module,
        tokens: int,
        chunk: int,
        passage: int = 256,
        whole: bool = False,
        graph: bool = True,
    ) -> None:
        """Allocate the pool; `whole` runs the last layer to its end, as if its output were needed.

        `graph` replays one captured graph for every chunk.
        """
        self.model, self.chunk = model, chunk
        device = next(model.parameters()).device
        slots = 128
        self.pool = PagedPool(LAYERS, KV_HEADS, DIM, capacity_pages=tokens // slots, page_size=slots, device=device)
        self.runs: list[PageRun] = [self.pool.allocate(passage) for _ in range(tokens // passage)]
        self.last = None if whole else LAYERS - 1
        self.prefix_k = torch.randn(LAYERS, KV_HEADS, PREFIX, DIM, device=device, dtype=torch.bfloat16)
        self.prefix_v = torch.randn_like(self.prefix_k)
        self.ids = torch.randint(0, 32_000, (1, tokens), device=device)
        per_chunk = chunk // passage
        self.all_places = [self.pool.places(self.runs[i : i + per_chunk]) for i in range(0, len(self.runs), per_chunk)]
        self.offsets = torch.arange(0, chunk + 1, passage, device=device, dtype=torch.int32)
        self.positions = (torch.arange(chunk, device=device) % passage + PREFIX)[None]
        self.places = self.all_places[0]
        self.read = GraphedCall(self._read, self.ids[:, :chunk], self.places) if graph else self._read

    @torch.inference_mode()
    def _read(self, ids: Tensor, places: Tensor) -> Tensor:
        self.model.config._attn_implementation = "bench_read"
        self.places = places
        _run(self.model, input_ids=ids, position_ids=self.positions, use_cache=False, job=self)
        return places

    def __call__(self) -> None:
        """Read all passages."""
        for ids, places in zip(self.ids.split(self.chunk, 1), self.all_places, strict=True):
            self.read(ids, places)


class WarmQuery:
    """A query of 32 tokens over a pool, or several at once: mass at the counted heads, sentence scores on the host."""

    def __init__(self, model: torch.nn.Module, look: FirstLook, queries: int = 1, graph: bool = True) -> None:
        """Prepare (and capture) the query."""
        self.model, self.pool, self.last = model, look.pool, LAYERS - 1
        device = look.ids.device
        ids, lengths = self.pool.request(look.runs)
        self.ids, self.lengths = ids.repeat(queries), lengths.repeat(queries)
        self.batch: dict[str, object] = {}
        if queries > 1:
            offsets = torch.arange(queries + 1, device=device, dtype=torch.int32)
            self.batch = {
                "cu_rows": offsets * ROWS,
                "cu_pages": offsets * len(ids),
                "max_rows": ROWS,
                "max_pages": len(ids),
            }
        self.mass = torch.zeros(self.ids.numel() * self.pool.page_size, device=device)
        self.weights = {}
        for layer, heads in COUNTED.items():
            self.weights[layer] = torch.zeros(ROWS * queries, HEADS, device=device)
            self.weights[layer][:, list(heads)] = 1.0
        self.starts = torch.arange(0, self.mass.numel(), 32, device=device, dtype=torch.int32)
        self.host = torch.empty(self.starts.numel(), pin_memory=True)
        self.positions = (torch.arange(ROWS, device=device).repeat(queries) + 300)[None]
        self.tokens = torch.randint(0, 32_000, (1, ROWS * queries), device=device)
        self.call: Callable[..., Tensor] = GraphedCall(self._ask, self.tokens) if graph else self._ask

    @torch.inference_mode()
    def _ask(self, tokens: Tensor) -> Tensor:
        self.model.config._attn_implementation = "bench_ask"
        self.mass.zero_()
        _run(self.model, input_ids=tokens, position_ids=self.positions, use_cache=False, job=self)
        self.host.copy_(segment_reduce(self.mass, self.starts, self.starts + 32), non_blocking=True)
        return self.mass

    def __call__(self) -> None:
        """Ask; the scores are on the host once the device is done."""
        self.call(self.tokens)


def _run(model: torch.nn.Module, **inputs: object) -> None:
    with suppress(LayersRead):
        model(**inputs)


def stock_causal(model: torch.nn.Module, ids: Tensor) -> Callable[[], object]:
    """GemFilter's way: the whole prompt through all 14 blocks, causally, stock transformers with torch SDPA."""

    @torch.inference_mode()
    def call() -> None:
        model.config._attn_implementation = "sdpa"
        model(input_ids=ids, use_cache=False)

    return call


def stock_independent(model: torch.nn.Module, ids: Tensor, passage: int = 256, rows: int = 32) -> Callable[[], object]:
    """Passages as rows of a batch, stock transformers with torch SDPA, 32 rows at a time."""

    @torch.inference_mode()
    def call() -> None:
        model.config._attn_implementation = "sdpa"
        for batch in ids.view(-1, passage).split(rows):
            model(input_ids=batch, use_cache=False)

    return call
