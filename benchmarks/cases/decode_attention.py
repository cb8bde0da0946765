"""Times decode attention over a paged cache in every format, and torch's attention on contiguous keys, which has no table to follow."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from advisor.kernels.attention.paged_decode import new_workspace, paged_decode
from advisor.kernels.cache.kv_formats import stored_width
from advisor.profiles.formats import GIB
from benchmarks.cases.shapes import DECODES, Decode
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import KERNELS
from benchmarks.harness.record import Timing, Work
from benchmarks.harness.timing import FEWEST_SETS, Candidate, absent, interleaved, sets_for

FORMATS = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
"""Bytes of an element; quantised formats add a float16 scale per token and head."""
BLOCK_TOKENS = 64
BACKENDS = {
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
}
MOST_BYTES = 16 * GIB
"""Most bytes of all caches of one format together; a shape that leaves fewer than `FEWEST_SETS` of them is not timed."""
Row = tuple[Tensor, Tensor, Tensor]
"""Query, keys and values as torch's attention takes them."""


def decode_cases(shapes: Sequence[Decode] = DECODES, *, seconds: float = 8.0) -> list[Case]:
    """A case for each shape, with more time for those that compile flex_attention."""
    return [
        Case(
            part=KERNELS,
            name=f"paged-decode/{shape.name}",
            seconds=seconds + 15 * (shape.peers and seconds > 0),
            needs=("paged-decode",),
            run=partial(time_decode, shape),
        )
        for shape in shapes
    ]


@dataclass(frozen=True, slots=True)
class Inputs:
    """One query and a cache of one format."""

    query: Tensor
    keys: Tensor
    values: Tensor
    scales: tuple[Tensor, Tensor] | None
    tables: Tensor
    lengths: Tensor


def time_decode(shape: Decode, bench: Bench) -> Measured:
    """Time all formats and peers, interleaved. Raises `ValueError` if fewer than `FEWEST_SETS` caches fit in memory."""
    sets = min(sets_for(int(min(FORMATS.values()) * shape.kv_elements), bench.device), MOST_BYTES // (2 * cached_elements(shape)))
    if sets < FEWEST_SETS:
        raise ValueError(f"{FEWEST_SETS} caches of {2 * cached_elements(shape) / GIB:.1f} GiB do not fit in {MOST_BYTES / GIB:.0f} GiB")
    inputs = {name: [make_inputs(shape, name, bench.device, seed) for seed in range(sets)] for name in FORMATS}
    sinks = torch.randn(shape.model.heads, device=bench.device) if shape.model.sinks else None
    candidates = [Candidate(name, [our_call(shape, name, given, sinks) for given in inputs[name]]) for name in FORMATS]
    missing: list[Timing] = []
    for name, made in peer_calls(shape, inputs["bf16"]):
        if isinstance(made, str):
            missing.append(absent(name, made))
        else:
            candidates.append(Candidate(name, made))
    with torch.inference_mode():
        timings = interleaved(candidates, bench.device, bench.samples)
    model = shape.model
    return Measured(
        settings={
            "model": model.name, "batch": shape.batch, "context": shape.context, "heads": model.heads, "kv_heads": model.kv_heads,
            "width": model.width, "window": model.window, "sinks": model.sinks, "block_tokens": BLOCK_TOKENS, "sets": sets,
        },
        work={candidate.name: work_of(shape, candidate.name) for candidate in candidates},
        timings=(*timings, *missing),
    )  # fmt: skip


def cached_elements(shape: Decode) -> int:
    """Elements of the whole cache, those outside the window included."""
    return 2 * shape.batch * shape.model.kv_heads * shape.context * shape.model.width


def work_of(shape: Decode, candidate: str) -> Work:
    """Least work of a call: visible keys and values with their scales, queries and outputs; peers read bf16."""
    per_element = FORMATS.get(candidate, 2.0)
    scales = 2 * shape.kv_elements // shape.model.width if candidate in FORMATS and candidate != "bf16" else 0
    rows = 2 * 2 * shape.batch * shape.model.heads * shape.model.width
    groups = shape.model.heads // shape.model.kv_heads
    return Work(bytes=int(per_element * shape.kv_elements) + scales + rows, flops=2 * groups * shape.kv_elements)


def make_inputs(shape: Decode, kv_format: str, device: torch.device, seed: int) -> Inputs:
    """A query and a cache of random finite numbers, its blocks in random order."""
    model, blocks = shape.model, -(-shape.context // BLOCK_TOKENS)
    draw = torch.Generator(device).manual_seed(seed)
    pool = shape.batch * blocks
    stored = (pool, model.kv_heads, BLOCK_TOKENS, model.width if kv_format == "bf16" else stored_width(kv_format, model.width))
    keys, values = (random_rows(stored, kv_format, device, draw) for _ in range(2))
    scales = [torch.rand((*stored[:3], 1), device=device, generator=draw).mul_(0.01).half() for _ in range(2)]
    return Inputs(
        query=torch.randn(shape.batch, 1, model.heads, model.width, device=device, generator=draw).to(torch.bfloat16),
        keys=keys,
        values=values,
        scales=None if kv_format == "bf16" else (scales[0], scales[1]),
        tables=torch.randperm(pool, device=device, generator=draw).view(shape.batch, blocks).int(),
        lengths=torch.full((shape.batch,), shape.context, dtype=torch.int32, device=device),
    )


def random_rows(shape: tuple[int, ...], kv_format: str, device: torch.device, draw: torch.Generator) -> Tensor:
    """Stored rows: random bytes in int8 and int4, rounded random numbers in fp8, two of whose bytes are NaN."""
    if kv_format in ("bf16", "fp8"):
        parts = [torch.randn(shape[1:], device=device, generator=draw, dtype=torch.bfloat16) for _ in range(min(shape[0], 64))]
        some = torch.stack(parts).to(torch.float8_e4m3fn if kv_format == "fp8" else torch.bfloat16)
        rows = torch.empty(shape, dtype=some.dtype, device=device)
        for start in range(0, shape[0], len(parts)):
            rows[start : start + len(parts)] = some[: shape[0] - start]
        return rows
    low, high, dtype = (-127, 128, torch.int8) if kv_format == "int8" else (0, 256, torch.uint8)
    return torch.randint(low, high, shape, dtype=dtype, device=device, generator=draw)


def our_call(shape: Decode, kv_format: str, given: Inputs, sinks: Tensor | None) -> Callable[[], object]:
    """A call as the runtime makes it, with its workspace allocated beforehand."""
    key_scales, value_scales = given.scales or (None, None)
    workspace = new_workspace(given.query)

    def call() -> Tensor:
        return paged_decode(
            given.query, given.keys, given.values, given.tables, given.lengths, scale=shape.model.width**-0.5, kv_format=kv_format,
            key_scales=key_scales, value_scales=value_scales, window=shape.model.window, sinks=sinks, workspace=workspace,
        )  # fmt: skip

    return call


def peer_calls(shape: Decode, sets: Sequence[Inputs]) -> Iterator[tuple[str, list[Callable[[], object]] | str]]:
    """Torch's attention functions on the same numbers, or the reason why one does not apply."""
    if shape.model.sinks or shape.model.window:
        yield "sdpa", "torch's fused attention has neither sinks nor, without a mask, a window"
        return
    rows = [_row(given, shape.context) for given in sets]
    for name, backend in BACKENDS.items():
        yield name, [partial(_fused, backend, *row) for row in rows]
    yield "gather-sdpa", [partial(_gathered, given, shape.context) for given in sets]
    if shape.peers:
        yield "flex", flex_calls(rows)


def _row(given: Inputs, tokens: int) -> Row:
    keys, values = (contiguous(part, given.tables, tokens) for part in (given.keys, given.values))
    return given.query.transpose(1, 2), keys, values


def contiguous(rows: Tensor, tables: Tensor, tokens: int) -> Tensor:
    """The blocks of each sequence as contiguous rows: [N, K, L, D]."""
    gathered = rows[tables.long()]
    return gathered.permute(0, 2, 1, 3, 4).flatten(2, 3)[:, :, :tokens].contiguous()


def _fused(backend: SDPBackend, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    with sdpa_kernel(backend):
        return scaled_dot_product_attention(query, keys, values, enable_gqa=True)


def _gathered(given: Inputs, tokens: int) -> Tensor:
    """Gather the blocks, then attend, as a runtime without a paged kernel does."""
    return scaled_dot_product_attention(*_row(given, tokens), enable_gqa=True)


def flex_calls(rows: Sequence[Row]) -> list[Callable[[], object]] | str:
    """Compiled flex_attention on contiguous keys, or the error of its compilation."""
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., object] = torch.compile(flex_attention, dynamic=False)
    try:
        compiled(*rows[0], enable_gqa=True)
    except Exception as error:  # noqa: BLE001 - compilers raise many kinds; we only want to say so
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return [partial(compiled, *row, enable_gqa=True) for row in rows]
