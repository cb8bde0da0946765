"""Tiny random models and sessions for the runtime's tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel
from tests.backends.sessions import with_settings

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest
    from advisor.kernels.attention.block_pattern import BlockPattern

Tokens = list[tuple[int, ...]]
BLOCK = 4
"""Tokens of a block where a test counts blocks."""


@pytest.fixture
def uncompiled_flex(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run flex_attention uncompiled: compiling takes seconds a shape, and `tests/kernels/attention/test_flex.py` does it."""
    import torch
    from torch.nn.attention import flex_attention

    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Any]:
    """Build a random model of any architecture, wide enough in its weights that greedy choices have clear margins."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()

    def build(architecture: str = "llama", *, seed: int = 0, **changes: object) -> Any:
        sizes: dict[str, object] = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 256, "initializer_range": 0.2}
        sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        torch.manual_seed(seed)
        config = transformers.CONFIG_MAPPING[architecture](**{**sizes, **changes})
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()

    return build


@pytest.fixture(scope="session")
def llama(build_model: Callable[..., Any]) -> Any:
    return build_model("llama")


@pytest.fixture(scope="session")
def draft(build_model: Callable[..., Any]) -> Any:
    return build_model("llama", seed=1, hidden_size=32, num_hidden_layers=1)


@pytest.fixture(scope="session")
def open_session() -> Callable[..., LoadedModel]:
    """A session around a model, four slots of 80 tokens unless told otherwise."""
    import torch

    def build(model: Any, **settings: Any) -> LoadedModel:
        session = LoadedModel(folder=Path(), model=model, tokenizer=None, device=torch.device("cpu"), max_tokens=80)
        return with_settings(session, **{"max_sequences": 4, **settings})

    return build


@pytest.fixture(scope="session")
def generate() -> Callable[[Any, Sequence[GenerationRequest]], Tokens]:
    """What `model.generate` answers to each job alone, greedily."""
    import torch

    def answer(model: Any, job: GenerationRequest) -> tuple[int, ...]:
        prompt = torch.tensor([job.prompt])
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=job.output_tokens,
            max_new_tokens=job.output_tokens,
            eos_token_id=None,
            pad_token_id=0,
        )
        return tuple(out[0, len(job.prompt) :].tolist())

    return lambda model, jobs: [answer(model, job) for job in jobs]


@pytest.fixture(scope="session")
def text() -> Callable[..., tuple[int, ...]]:
    """Random tokens of the tiny vocabulary."""

    def draw(length: int, seed: int = 0) -> tuple[int, ...]:
        tokens = random.Random(seed)
        return tuple(tokens.randrange(3, 64) for _ in range(length))

    return draw


@pytest.fixture(scope="session")
def cached_logits() -> Callable[..., tuple[torch.Tensor, int]]:
    """Logits [T, V] of a text through a session's cache, passed in pieces from one place to another, and the most blocks held."""
    import torch

    from advisor.backends.runtime.attention.step import SequenceInput
    from advisor.backends.runtime.prepare import prepared_session

    def run(
        session: LoadedModel, tokens: Sequence[int], passes: Sequence[tuple[int, int]], pattern: BlockPattern | None = None
    ) -> tuple[torch.Tensor, int]:
        rows = []
        with prepared_session(session) as ready:
            if pattern is not None:
                ready.runner.visibility = replace(ready.runner.visibility, pattern=pattern)
            pool = ready.runner.pool
            sequence = pool.open()
            for start, end in passes:
                pool.evict(sequence)
                assert pool.allocate(sequence, end)
                grouped = 1 if end == start + 1 and start else 0
                rows.append(ready.runner.run([SequenceInput(sequence, tokens[start:end])], range(end - start), grouped).clone())
            return torch.cat(rows), pool.peak_blocks

    return run


@pytest.fixture(scope="session")
def block_bytes() -> Callable[[Any], int]:
    """Bytes of one block of a tiny model: keys and values of all layers, single precision."""

    def count(model: Any) -> int:
        config = model.config
        width = config.hidden_size // config.num_attention_heads
        return int(config.num_hidden_layers * 2 * config.num_key_value_heads * width * BLOCK * 4)

    return count


@pytest.fixture(scope="session")
def passes_of() -> Callable[[int, Sequence[int]], list[tuple[int, int]]]:
    """Cut a text into passes of these sizes, the rest one token each."""

    def cut(length: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
        spans, start = [], 0
        for size in sizes:
            spans.append((start, start + size))
            start += size
        return [*spans, *((position, position + 1) for position in range(start, length))]

    return cut
