"""Quantised linears against bf16 on this CPU: single layers by rows, then decode and prefill of a random Llama served by the runtime.

python -m benchmarks.cpu --only 'kernels/linear/*' --only 'runtime/decode/*' --only 'runtime/prefill/*'
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch

from advisor.backends.deployment import Batching
from advisor.backends.measure.products import Stored, linear, stored_bytes
from advisor.backends.model.quantised_linear import quantise_linears, weight_bytes
from advisor.backends.runtime.engine import serve
from benchmarks.cases.continuous import decoding_steps, equal_jobs
from benchmarks.cases.linear import copies
from benchmarks.cases.models import LLAMA_207M, Shape, make_model, recorded, session_of
from benchmarks.cases.one_sequence import ON_CPU
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import KERNELS, RUNTIME
from benchmarks.harness.record import Timing, Work
from benchmarks.harness.timing import FEWEST_SETS, Candidate, interleaved

ROWS = (1, 4, 8, 16, 64, 128, 512)
MATRICES = ((1024, 1024), (2816, 1024), (1024, 2816), (256, 256))
"""Output and input features."""
FORMATS = (Stored("bf16", None), Stored("int8", "int8"), Stored("int4-g32", "int4", 32), Stored("int4-g128", "int4", 128))
WITH_HEAD = {"int8-head": FORMATS[1], "int4-g128-head": FORMATS[3]}
"""Models whose output head, a matrix of its own, is in few bits too."""
NEEDS = ("int8-linear", "int4-linear")
WORKING_SET_BYTES = 128e6
"""Copies of a layer that take turns hold this much in bf16: more than a processor's cache, as a model's weights do."""
MOST_COPIES = 64
MANY_ROWS = 64
"""From here on arithmetic outweighs the weights: a few copies do."""
STEPS = (("decode", 1, 32), ("decode", 4, 32), ("decode", 16, 32), ("prefill", 1, 128), ("prefill", 1, 512))
"""Phase, sequences, and tokens of their prompts."""
OUTPUT_TOKENS = 24
"""Of a sequence that decodes; the later half of its steps counts."""
ROUNDS = 12


def layer_cases(matrices: Sequence[tuple[int, int]] = MATRICES, rows: Sequence[int] = ROWS, *, seconds: float = 2.5) -> list[Case]:
    """A case for each matrix and number of rows."""
    return [
        Case(part=KERNELS, name=f"linear/{n}x{k}-rows{m}", seconds=seconds, needs=NEEDS, run=partial(time_layer, n, k, m))
        for n, k in matrices
        for m in rows
    ]


def time_layer(n: int, k: int, m: int, bench: Bench) -> Measured:
    """All formats in index, each on enough copies of the layer that its weights are read from memory."""
    count = FEWEST_SETS if m >= MANY_ROWS else max(2, min(MOST_COPIES, int(WORKING_SET_BYTES / (2 * n * k))))
    first = {stored.name: linear(n, k, stored, bench.device) for stored in FORMATS}
    inputs = torch.randn(m, k, device=bench.device).to(torch.bfloat16)
    candidates = [Candidate(name, [partial(layer, inputs) for layer in copies(module, count)]) for name, module in first.items()]
    with torch.inference_mode():
        timings = interleaved(candidates, bench.device, bench.samples)
    return Measured(
        settings={"rows": m, "n": n, "k": k, "sets": count},
        work={name: Work(bytes=stored_bytes(module) + 2 * m * (n + k), flops=2 * m * n * k) for name, module in first.items()},
        timings=timings,
    )


def step_cases(shape: Shape = LLAMA_207M, steps: Sequence[tuple[str, int, int]] = STEPS, *, seconds: float = 12) -> list[Case]:
    """A case for each kind of step of a model."""
    return [
        Case(
            part=RUNTIME,
            name=f"{phase}/{shape.name}-batch{batch}" + ("" if phase == "decode" else f"-{tokens}"),
            seconds=seconds,
            needs=NEEDS,
            run=partial(time_step, shape, phase, batch, tokens),
        )
        for phase, batch, tokens in steps
    ]


def time_step(shape: Shape, phase: str, batch: int, tokens: int, bench: Bench) -> Measured:
    """Decoding steps, or first tokens, of the runtime over the model in every format, formats in index."""
    models = models_of(shape, bench.device)
    output_tokens = OUTPUT_TOKENS if phase == "decode" else 1
    settings = {"max_tokens": tokens + output_tokens, "batching": Batching(max_sequences=batch), **ON_CPU}
    taken: dict[str, list[float]] = {form: [] for form in models}
    for index in range(min(ROUNDS, bench.samples) + 1):
        for form, model in models.items():
            jobs = equal_jobs(model.config.vocab_size, batch, tokens, output_tokens)
            outcome = serve(session_of(model, **settings), jobs, concurrency=None)
            if index:  # the first round warms up
                taken[form] += decoding_steps(outcome) if phase == "decode" else [outcome.finished[0].sample.ttft_ms / 1e3]
    stored_sizes = {form: weight_bytes(model) for form, model in models.items()}
    return Measured(
        settings={"model": shape.name, "batch": batch, "prompt_tokens": tokens, "output_tokens": output_tokens, **recorded(ON_CPU)},
        work={form: Work(bytes=sum(kinds[kind] for kind in ("linear", "scales", "head", "other"))) for form, kinds in stored_sizes.items()},
        timings=tuple(Timing(name=form, how="loop", seconds=tuple(seconds)) for form, seconds in taken.items()),
    )


@lru_cache(maxsize=1)
def models_of(shape: Shape, device: torch.device) -> dict[str, Any]:
    """The same random model in every format. The embedding stays bf16, and the head but for `WITH_HEAD`."""
    stored_as = {stored.name: stored for stored in FORMATS} | WITH_HEAD
    models = {name: make_model(shape, device) for name in stored_as}
    for name, stored in stored_as.items():
        if stored.scheme is not None:
            quantise_linears(models[name], stored.scheme, stored.group_size, head=name in WITH_HEAD)
    return models
