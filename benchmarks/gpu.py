"""Speed of the kernels on one NVIDIA GPU: figure, floor, ratio, peer.

    python benchmarks/gpu.py                 # all parts, 131,072, 32,768 and 8,192 tokens
    python benchmarks/gpu.py --parts kernels --tokens 32768

Llama-3.1-8B shape: hidden 4096, 32 heads and 8 KV heads of 128, MLP 14336; 14 layers, bf16, random weights, passages of
256 tokens, a query of 32. Floors come from this run's own ceilings: bytes that must move over the rate of a large copy,
or operations over the rate of a large matrix product, whichever is slower. Each kernel is first compared with the torch
reference; when that fails, no speed is printed. Times are medians of CUDA events; a kernel is timed inside a CUDA graph
of several calls, so that launch gaps of the host do not count.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ctxshaper.kernels import gem_scores, query_attention
from ctxshaper.kernels.triton.attention_mass import attention_mass
from ctxshaper.kernels.triton.tuning import forget

HEADS, KV_HEADS, DIM, LAYERS, ROWS, SLOTS = 32, 8, 128, 14, 32, 128
HIDDEN, MLP = HEADS * DIM, 14336
SCALE = 1 / math.sqrt(DIM)
LAYER_WEIGHTS = HIDDEN * (2 * HIDDEN + 2 * KV_HEADS * DIM) + 3 * HIDDEN * MLP
rows_of_table: list[tuple[str, ...]] = []


def median(call: Callable[[], object], repeats: int = 15, warmups: int = 3) -> float:
    """Milliseconds of a call: median of CUDA events."""
    times = []
    for i in range(warmups + repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        if i >= warmups:
            times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def in_graph(call: Callable[[], object], inner: int = 10) -> float:
    """Milliseconds of a call within a CUDA graph of `inner` calls."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(inner):
            call()
    return median(graph.replay) / inner


def relative(got: Tensor, expected: Tensor) -> float:
    """‖got - expected‖ / ‖expected‖; infinite for NaN."""
    value = ((got.double() - expected.double()).norm() / expected.double().norm()).item()
    return value if value == value else math.inf


def report(work: str, tokens: int, figure: float, floor: float | None, peers: str = "") -> None:
    """Print and keep one row of the table."""
    ratio = f"{figure / floor:.2f}" if floor else ""
    row = (work, f"{tokens:,}", f"{figure:.4g}", f"{floor:.4g}" if floor else "", ratio, peers)
    rows_of_table.append(row)
    print(" | ".join(row), flush=True)


def checked(work: str, tokens: int, pairs: list[tuple[Tensor, Tensor, float]]) -> bool:
    """Compare with the reference; say so and return False when a difference is too large."""
    errors = [(relative(a, b), bound) for a, b, bound in pairs]
    if all(e <= bound for e, bound in errors):
        return True
    rows_of_table.append((work, f"{tokens:,}", "REFUSED", "", "", f"differs from the reference: {errors}"))
    print(" | ".join(rows_of_table[-1]), flush=True)
    return False


def ceilings() -> tuple[float, float]:
    """Measure bytes per millisecond of a large copy and operations per millisecond of a large matrix product."""
    source = torch.randn(1 << 31, device="cuda", dtype=torch.bfloat16)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / median(lambda: target.copy_(source))
    source = target = torch.empty(0)  # frees both
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    short = 2 * 8192**3 / median(lambda: a @ b, 10)
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < 1.5:  # long enough to reach the power limit, as a first look does
        for _ in range(50):
            a @ b
        torch.cuda.synchronize()
        count += 50
    sustained = 2 * 8192**3 * count / (time.perf_counter() - start) / 1e3
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; copy {copy / 1e9:.2f} TB/s, bf16 8192^3 product "
          f"{short / 1e9:.0f} TFLOP/s, over 1.5 s without a pause {sustained / 1e9:.0f}", flush=True)  # fmt: skip
    return copy, short


def kernels(tokens: int, copy: float, product: float) -> None:
    """One layer: attention of a query, mass, gem scores."""
    pages = tokens // SLOTS
    k, v = torch.randn(2, pages, KV_HEADS, SLOTS, DIM, device="cuda", dtype=torch.bfloat16)
    ids = torch.randperm(pages, device="cuda").int()
    lengths = torch.full_like(ids, SLOTS)
    q = torch.randn(ROWS, HEADS, DIM, device="cuda", dtype=torch.bfloat16)
    own_k, own_v = torch.randn(2, ROWS, KV_HEADS, DIM, device="cuda", dtype=torch.bfloat16)
    weights = torch.ones(ROWS, HEADS, device="cuda")
    inputs = (q, k, v, ids, lengths, own_k, own_v)
    got = query_attention(*inputs, mass_weights=weights, finite=True, backend="triton")
    expected = query_attention(*inputs, mass_weights=weights, backend="torch")
    dense = k.index_select(0, ids.long()).transpose(0, 1).reshape(KV_HEADS, tokens, DIM)
    dense_v = v.index_select(0, ids.long()).transpose(0, 1).reshape(KV_HEADS, tokens, DIM)
    side = k.nbytes / copy
    products = 2 * ROWS * HEADS * tokens * DIM / product
    rows = q.transpose(0, 1)[None]

    def eager() -> Tensor:
        wide = dense.repeat_interleave(HEADS // KV_HEADS, 0)
        return ((rows[0] @ wide.transpose(1, 2)).float() * SCALE).softmax(-1).sum((0, 1))

    eager_time = median(eager, 7)
    if checked("query attention", tokens, list(zip(got, expected, (8e-3, 1e-5, 1e-4), strict=True))):
        sdpa = in_graph(lambda: torch.nn.functional.scaled_dot_product_attention(
            rows, dense[None], dense_v[None], enable_gqa=True))  # fmt: skip
        for name, finite in (("query attention, bulk copies", True), ("query attention, masked copies", False)):
            figure = in_graph(lambda f=finite: query_attention(*inputs, finite=f, backend="triton"))
            report(f"{name}, one layer, ms", tokens, figure, max(2 * side, 2 * products),
                   f"SDPA over dense keys {sdpa:.3g}; FlexAttention {_flex(rows, dense, dense_v):.3g}")  # fmt: skip
        lse = got[1]
        forget()  # what counts decides which launch is best
        figure = in_graph(lambda: attention_mass(q, k, ids, lengths, lse, weights, SCALE, None))
        report(
            "mass, one layer, all heads, ms", tokens, figure, max(side, products), f"eager attention {eager_time:.3g}"
        )
        figure = in_graph(lambda: query_attention(*inputs, mass_weights=weights, need_output=False, backend="triton"))
        report("lse and mass, no output, ms", tokens, figure, 2 * side, f"eager attention {eager_time:.3g}")
        two = torch.zeros_like(weights)
        two[:, [5, 22]] = 1.0
        forget()
        figure = in_graph(lambda: attention_mass(q, k, ids, lengths, lse, two, SCALE, None))
        report("mass, one layer, 2 heads, ms", tokens, figure, side / 4)
    reference = gem_scores(q, dense, backend="torch")

    def gemfilter() -> Tensor:
        wide = dense.repeat_interleave(HEADS // KV_HEADS, 0)
        raw = (rows[0, :, -1:] @ wide.transpose(1, 2)).sum(0)
        return torch.nn.functional.avg_pool1d(raw[None], 5, 1, 2)

    peer = f"GemFilter's formula in torch {median(gemfilter, 7):.3g}"
    for name, extra in (("dense keys", (dense,)), ("pages", (k, ids, lengths))):
        if checked(f"gem_scores, {name}", tokens, [(gem_scores(q, *extra, backend="triton"), reference, 1e-5)]):
            report(
                f"gem_scores, {name}, one layer, ms", tokens, in_graph(lambda e=extra: gem_scores(q, *e)), side, peer
            )


def _flex(rows: Tensor, dense: Tensor, dense_v: Tensor) -> float:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    compiled = torch.compile(flex_attention, dynamic=False)
    try:
        # Without a mask of blocks the kernel would take all keys as one block.
        mask = create_block_mask(lambda *_: rows.new_ones((), dtype=torch.bool), None, None, ROWS, dense.shape[1])
        wide = rows.contiguous()
        return median(lambda: compiled(wide, dense[None], dense_v[None], block_mask=mask, enable_gqa=True))
    except Exception as error:  # noqa: BLE001  # a peer that cannot run is reported as such
        print(f"FlexAttention does not run here: {str(error)[:120]}", flush=True)
        return math.nan


def stack(sizes: list[int], copy: float, product: float, chunk: int) -> None:
    """Run the 14-layer stack: first look, warm query, 16 queries at once."""
    import gpu_model
    from torch import compiler

    from ctxshaper.kernels import passage_attention

    model = gpu_model.build()
    q, k, v = (torch.randn(2048, n, DIM, device="cuda", dtype=torch.bfloat16).transpose(0, 1) for n in (HEADS, 8, 8))
    offsets = torch.arange(0, 2049, 256, device="cuda", dtype=torch.int32)
    if not checked("first look", 2048, [(passage_attention(q, k, v, offsets, backend="triton"),
                                         passage_attention(q, k, v, offsets, backend="torch"), 8e-3)]):  # fmt: skip
        return
    peers = {}
    for tokens in sizes:
        ids = torch.randint(0, 32_000, (1, tokens), device="cuda")
        causal = median(gpu_model.stock_causal(model, ids), 1, 1)
        independent = median(gpu_model.stock_independent(model, ids), 3, 1)
        peers[tokens] = f"GemFilter's way (causal, stock) {causal:.5g}; independent, stock {independent:.5g}"
        torch.cuda.empty_cache()
    compiler.reset()
    for layer in model.layers:
        layer.compile(dynamic=False)
    into_heads = HIDDEN * (HIDDEN + 2 * KV_HEADS * DIM)  # weights of q, k and v: all that the last layer needs
    for tokens in sizes:
        attention = 2 * 2 * tokens * (128 + gpu_model.PREFIX) * HIDDEN
        block = 2 * tokens * LAYER_WEIGHTS + attention
        for whole in (True, False) if tokens == max(sizes) else (False,):
            gpu_model.FirstLook(model, tokens, min(chunk, tokens), whole=whole)()  # compiles, and times candidates
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            look = gpu_model.FirstLook(model, tokens, min(chunk, tokens), whole=whole)
            figure = median(look, 5, 1)
            extra = torch.cuda.max_memory_allocated() - held - look.pool.nbytes
            name = "all 14 blocks to their end" if whole else "up to the last layer's keys and values"
            work = LAYERS * block if whole else (LAYERS - 1) * block + 2 * tokens * into_heads
            report(f"first look, {name}, ms", tokens, figure, work / product, peers[tokens])
            weights = sum(p.nbytes for p in model.parameters())
            print(f"  memory above weights and memories: {extra / 1e9:.2f} GB, "
                  f"{100 * extra / (weights + look.pool.nbytes):.1f}%", flush=True)  # fmt: skip
        side = 2 * tokens * KV_HEADS * DIM  # bytes of the keys of one layer
        moved = (LAYERS - 1) * (2 * LAYER_WEIGHTS + 2 * side) + 2 * into_heads + side
        query = gpu_model.WarmQuery(model, look)
        report("warm query, 14 layers, ms", tokens, median(query, 30), moved / copy,
               f"the same without a graph {median(gpu_model.WarmQuery(model, look, graph=False), 9):.3g}")  # fmt: skip
        del query
        many = gpu_model.WarmQuery(model, look, queries=16)
        figure = median(many, 7)
        report("16 queries at once, ms", tokens, figure, None, f"{16e3 / figure:.0f} queries/s")
        del many, look
        torch.cuda.empty_cache()


def main() -> None:
    """Run the chosen parts and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=("kernels", "stack"), default=("kernels", "stack"))
    parser.add_argument("--tokens", nargs="+", type=int, default=[131_072, 32_768, 8_192])
    parser.add_argument("--chunk", type=int, default=8_192, help="tokens of a first look that run at once")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs an NVIDIA GPU; on a CPU the same results come from the torch references")
    torch.manual_seed(0)
    with torch.inference_mode():
        copy, product = ceilings()
        if "kernels" in options.parts:
            for tokens in options.tokens:
                kernels(tokens, copy, product)
                torch.cuda.empty_cache()
        if "stack" in options.parts:
            stack(options.tokens, copy, product, options.chunk)
    print("\n| work | tokens | measured | floor | ratio | peers |\n|---|---|---|---|---|---|")
    for row in rows_of_table:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
