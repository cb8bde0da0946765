"""Times whole steps of the runtime on random-weight Llamas and fits their time beyond matrix products and attention."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from advisor.backends.deployment import Attention, AttentionBackend, Batching, KvCache, KvLayout
from advisor.backends.measure.interleave import MeasurementKind
from advisor.backends.measure.overhead_fit import Fit, ObservedStep, fit_overheads
from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.interpolate import AttentionTable, GemmTable

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

VOCABULARY = 2048
OUTPUT_TOKENS = 12
BLOCK_TOKENS = 16
REQUIRED_BATCHES = 4
"""Timed even after the deadline, with two kinds of step each: fewer do not determine four overheads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Llama with grouped queries and tied embeddings."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Outputs and inputs of one layer's matrix products, those with the same input fused."""
        kv, hidden, wide = self.kv_heads * self.head_dim, self.hidden, self.intermediate
        return ((hidden + 2 * kv, hidden), (hidden, hidden), (2 * wide, hidden), (hidden, wide))

    def weight_bytes(self, dtype: str) -> int:
        """Bytes of all matrices and the embedding in `dtype`."""
        return (4 if dtype == "fp32" else 2) * (self.layers * sum(n * k for n, k in self.matrices) + VOCABULARY * self.hidden)


@dataclass(frozen=True, slots=True)
class LayerStack:
    """Attention backend and cache layout that steps are timed with."""

    attention: AttentionBackend
    layout: KvLayout


@dataclass(frozen=True, slots=True)
class TimedBatch:
    """Sequences of one prompt length that are served as a static batch."""

    sequences: int
    prompt_tokens: int


SHAPES = (
    Shape(layers=4, hidden=256, intermediate=768, heads=8, kv_heads=4),
    Shape(layers=2, hidden=128, intermediate=384, heads=4, kv_heads=2),
    Shape(layers=4, hidden=1024, intermediate=2816, heads=16, kv_heads=8),
    Shape(layers=8, hidden=512, intermediate=1408, heads=8, kv_heads=4),
)
"""Different depth and width, so that the overheads of a step, a layer and an element can be separated."""
STACKS = (LayerStack(AttentionBackend.EAGER, KvLayout.CONTIGUOUS), LayerStack(AttentionBackend.SDPA, KvLayout.PAGED))
BATCHES = (TimedBatch(1, 64), TimedBatch(4, 256), TimedBatch(16, 64), TimedBatch(8, 128), TimedBatch(1, 512))


@dataclass(frozen=True, slots=True)
class Tables:
    """Measured times of matrix products and attention."""

    gemm: GemmTable
    attention: AttentionTable


@dataclass(frozen=True, slots=True)
class TimedPart:
    """The work of a step: its phase, sequences, and the new tokens and tokens in all of each."""

    phase: str
    sequences: int
    q_tokens: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class TimedStep:
    """A timed step: the model, the settings of the runtime, the work and the time."""

    shape: Shape
    stack: LayerStack
    part: TimedPart
    seconds: float


def step_timings(
    device: "torch.device", share: float, shapes: Sequence[Shape] = SHAPES, *, dtype: str = "bf16"
) -> MeasurementKind[TimedStep]:
    """The timings of every shape under every batch and stack, on `device` in `dtype`; only one model is in memory at a time."""
    model_of = lru_cache(maxsize=1)(partial(random_llama, device=device, dtype=dtype))
    tasks = [partial(_steps_of, model_of, shape, stack, batch) for shape in shapes for batch in BATCHES for stack in STACKS]
    return MeasurementKind(tasks=tasks, share=share, required=REQUIRED_BATCHES)


def _steps_of(model_of: Callable[[Shape], Any], shape: Shape, stack: LayerStack, batch: TimedBatch) -> Iterator[TimedStep]:
    for part, seconds in timed_steps(model_of(shape), stack, batch):
        yield TimedStep(shape, stack, part, seconds)


def overheads_of(steps: Iterable[TimedStep], tables: Tables, dtype: str = "bf16") -> Fit:
    """The fitted overheads of the runtime: the time of steps beyond their operators."""
    return fit_overheads([observed(step, tables, dtype) for step in steps])


def observed(step: TimedStep, tables: Tables, dtype: str = "bf16") -> ObservedStep:
    """A step timed in `dtype` together with the time of its operators according to the tables."""
    part = step.part
    return ObservedStep(
        layers=step.shape.layers,
        sequences=part.sequences,
        rows=part.sequences * part.q_tokens,
        hidden_size=step.shape.hidden,
        operators_s=operator_seconds(step.shape, step.stack, part, tables, dtype),
        seconds=step.seconds,
    )


def random_llama(shape: Shape, device: "torch.device", dtype: str = "bf16") -> Any:
    """A Llama of the given shape with random weights in `dtype`, on `device`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from advisor.backends.model.load import torch_dtype

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    with torch.inference_mode(False):  # the runtime replaces the weights of what it serves, which inference tensors do not allow
        return LlamaForCausalLM(config).to(device=device, dtype=torch_dtype(dtype)).eval()


def timed_steps(model: Any, stack: LayerStack, batch: TimedBatch) -> Iterator[tuple[TimedPart, float]]:
    """The median time of a prefill step of one prompt, and of a decode step of the whole batch, in seconds.

    The batch is served twice and timed the second time, since libraries such as oneDNN generate code for every new shape once.
    """
    from advisor.backends.runtime.engine import GenerationRequest, serve

    prompt = tuple(index % VOCABULARY for index in range(batch.prompt_tokens))
    session = LoadedModel(
        folder=Path(),
        model=model,
        tokenizer=None,
        device=model.device,
        max_tokens=batch.prompt_tokens + OUTPUT_TOKENS,
        attention=Attention(stack.attention),
        kv=KvCache(stack.layout, BLOCK_TOKENS if stack.layout == KvLayout.PAGED else 0),
        kv_capacity_tokens=2 * batch.sequences * (batch.prompt_tokens + OUTPUT_TOKENS),
        batching=Batching(max_sequences=batch.sequences),
    )
    jobs = [GenerationRequest(prompt, OUTPUT_TOKENS)] * batch.sequences
    serve(session, jobs, concurrency=None)
    seconds = serve(session, jobs, concurrency=None).step_seconds
    assert len(seconds) == batch.sequences + OUTPUT_TOKENS - 1, "a static batch prefills one prompt a step, then decodes together"
    prefills = seconds[min(1, batch.sequences - 1) : batch.sequences]
    decodes = seconds[batch.sequences + 1 :]
    yield TimedPart("prefill", 1, batch.prompt_tokens, batch.prompt_tokens), median(prefills)
    yield TimedPart("decode", batch.sequences, 1, batch.prompt_tokens + OUTPUT_TOKENS // 2), median(decodes)


def operator_seconds(shape: Shape, stack: LayerStack, part: TimedPart, tables: Tables, dtype: str = "bf16") -> float:
    """Seconds of the products and the attention of a step according to the tables."""
    rows, gemm, weights = part.sequences * part.q_tokens, tables.gemm, shape.weight_bytes(dtype)
    products = sum(gemm.seconds(dtype, rows, n, k, weights) for n, k in shape.matrices)
    head = gemm.seconds(dtype, part.sequences, VOCABULARY, shape.hidden, weights)
    attention = tables.attention.seconds(
        stack.attention,
        stack.layout,
        dtype,
        part.phase,
        batch=part.sequences,
        q_tokens=part.q_tokens,
        kv_tokens=part.kv_tokens,
        q_heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
    )
    return shape.layers * (products + attention) + head
