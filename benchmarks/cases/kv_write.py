"""Times writing new keys and values to a paged cache with rotary positions, by our kernel, by torch and by torch's compiler."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from advisor.kernels.cache.kv_formats import stored_dtype, stored_width
from advisor.kernels.cache.kv_write import kv_write, reference
from benchmarks.cases.decode_attention import BLOCK_TOKENS, FORMATS
from benchmarks.cases.shapes import LLAMA_8B, Model
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import KERNELS
from benchmarks.harness.record import Work
from benchmarks.harness.timing import Candidate, interleaved, sets_for

TOKENS = (8192, 32, 1, 128)
"""Tokens of a chunk of a prompt, and of decoding sequences."""


def write_cases(model: Model = LLAMA_8B, tokens: Sequence[int] = TOKENS, *, seconds: float = 8.0) -> list[Case]:
    """A case for each number of tokens."""
    return [
        Case(
            part=KERNELS, name=f"kv-write/{model.name}-{count}", seconds=seconds, needs=("kv-write",), run=partial(time_write, model, count)
        )
        for count in tokens
    ]


@dataclass(frozen=True, slots=True)
class Inputs:
    """New rows with their slots, and the cache, by argument name of `kv_write`."""

    rows: dict[str, Tensor]
    cache: dict[str, Tensor]

    def call(self, write: Callable[..., object], kv_format: str) -> object:
        """Write all rows with `write`."""
        return write(**self.rows, **self.cache, kv_format=kv_format)


def time_write(model: Model, tokens: int, bench: Bench) -> Measured:
    """Time our kernel in every format, and torch in bf16."""
    sets = sets_for(work_of(model, tokens, "int4").bytes, bench.device)
    made = {kv_format: [inputs(model, tokens, kv_format, bench.device) for _ in range(sets)] for kv_format in FORMATS}
    candidates = [Candidate(name, [partial(given.call, kv_write, name) for given in given_sets]) for name, given_sets in made.items()]
    candidates.append(Candidate("torch", [partial(given.call, reference, "bf16") for given in made["bf16"]]))
    if bench.device.type == "cuda":
        compiled = torch.compile(reference, dynamic=False)
        candidates.append(Candidate("torch-compile", [partial(given.call, compiled, "bf16") for given in made["bf16"]]))
    with torch.inference_mode():
        timings = interleaved(candidates, bench.device, bench.samples)
    return Measured(
        settings={"model": model.name, "tokens": tokens, "block_tokens": BLOCK_TOKENS, "sets": sets},
        work={candidate.name: work_of(model, tokens, candidate.name) for candidate in candidates},
        timings=timings,
    )


def work_of(model: Model, tokens: int, candidate: str) -> Work:
    """Bytes of a call: new rows and angles read, queries read and written, stored rows and scales written."""
    rows = 2 * tokens * model.kv_heads
    stored = int(FORMATS.get(candidate, 2.0) * rows * model.width) + (2 * rows if FORMATS.get(candidate, 2.0) < 2 else 0)
    queries = 2 * 2 * tokens * model.heads * model.width
    return Work(bytes=2 * rows * model.width + stored + queries + 2 * 2 * tokens * model.width)


def inputs(model: Model, tokens: int, kv_format: str, device: torch.device) -> Inputs:
    """Random rows for slots in random order, in a cache of twice as many."""
    blocks = 2 * -(-tokens // BLOCK_TOKENS)
    is_exact = kv_format == "bf16"
    shape = (blocks, model.kv_heads, BLOCK_TOKENS, model.width if is_exact else stored_width(kv_format, model.width))
    dtype = torch.bfloat16 if is_exact else stored_dtype(kv_format)
    cache = {name: torch.zeros(shape, device=device).to(dtype) for name in ("keys", "values")}
    if not is_exact:
        cache |= {name: torch.zeros((*shape[:3], 1), dtype=torch.float16, device=device) for name in ("key_scales", "value_scales")}
    heads = {"key": model.kv_heads, "value": model.kv_heads, "query": model.heads}
    rows = {name: torch.randn(tokens, count, model.width, device=device).to(torch.bfloat16) for name, count in heads.items()}
    angles = torch.rand(tokens, model.width, device=device).mul_(6.28)
    rows |= {"cos": angles.cos().to(torch.bfloat16), "sin": angles.sin().to(torch.bfloat16)}
    return Inputs(rows | {"slots": torch.randperm(blocks * BLOCK_TOKENS, device=device)[:tokens]}, cache)
