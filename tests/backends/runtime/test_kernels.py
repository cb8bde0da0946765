"""The device's whole path, its Triton functions interpreted on the CPU: greedy tokens are those of the plain path and of the model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel

if TYPE_CHECKING:
    from advisor.backends.runtime.engine import GenerationRequest
    from advisor.backends.runtime.prepare import DeviceOptions


@pytest.fixture(autouse=True)
def _interpreted() -> None:
    from advisor.kernels.kernel import INTERPRETED

    if not INTERPRETED:
        pytest.skip("without a GPU these need Triton's interpreter")


PAGED: dict[str, Any] = {"kv_layout": "paged", "kv_block_tokens": 16, "batching": "continuous"}
MIXTURE: dict[str, object] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def slow(*values: object) -> Any:
    """A case that the interpreter takes seconds for, and whose claim another case makes by default."""
    return pytest.param(*values, marks=pytest.mark.slow)


def kernel_path() -> DeviceOptions:
    from advisor.backends.runtime.prepare import DeviceOptions

    return DeviceOptions(kernels=True, overlap=True)


def few_jobs(seed: int = 0, count: int = 2) -> list[GenerationRequest]:
    from advisor.backends.runtime.engine import GenerationRequest

    draw = random.Random(seed)
    return [GenerationRequest(tuple(draw.randrange(3, 64) for _ in range(draw.randint(2, 18))), draw.randint(2, 4)) for _ in range(count)]


def tokens(session: LoadedModel, jobs: Sequence[GenerationRequest], drive: DeviceOptions, **arguments: Any) -> list[tuple[int, ...]]:
    from advisor.backends.runtime.engine import serve

    return [done.tokens for done in serve(session, jobs, concurrency=None, device_options=drive, **arguments).finished]


@pytest.mark.parametrize(
    ("architecture", "changes", "settings"),
    [
        slow("llama", {}, {}),
        slow("llama", {}, PAGED),
        ("llama", {"tie_word_embeddings": True}, {**PAGED, "kv_block_tokens": 4, "token_budget": 9}),
        slow("qwen2", {}, {**PAGED, "kv_prefix_reuse": True}),
        ("qwen3", {"head_dim": 16}, PAGED),
        slow("qwen3_moe", {"head_dim": 16, **MIXTURE}, PAGED),
        slow("mistral", {"sliding_window": 7}, {**PAGED, "kv_block_tokens": 4}),
        slow("gpt_neox", {}, PAGED),
        slow("gpt_oss", {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 7}, PAGED),
        ("llama", {}, {**PAGED, "kv_block_tokens": 4, "decoding": "prompt-lookup", "draft_tokens": 2}),
    ],
)
def test_the_devices_path_generates_the_models_own_tokens(
    architecture: str,
    changes: dict[str, object],
    settings: dict[str, Any],
    build_model: Callable[..., Any],
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    model, jobs = build_model(architecture, **changes), few_jobs()
    session = open_session(model, max_tokens=26, max_sequences=2, **settings)
    assert tokens(session, jobs, kernel_path()) == generate(model, jobs)


@pytest.mark.parametrize("kv_format", [slow("fp8"), slow("int8"), "int4"])
def test_every_format_of_the_cache_gives_the_tokens_of_the_plain_path(
    kv_format: str, llama: Any, open_session: Callable[..., LoadedModel]
) -> None:
    from advisor.backends.runtime.prepare import DeviceOptions

    jobs = few_jobs(1)
    session = open_session(llama, max_tokens=26, max_sequences=2, kv_format=kv_format, **PAGED)
    assert tokens(session, jobs, kernel_path()) == tokens(session, jobs, DeviceOptions())


@pytest.mark.parametrize(
    "changes",
    [
        slow({"kv_window": 8}),
        {"kv_window": 8, "kv_sink_tokens": 4},
        slow({"attention_window": 6}),
        slow({"kv_window": 8, "kv_sink_tokens": 4, "kv_format": "int4"}),
    ],
)
def test_a_cache_that_forgets_is_read_as_on_the_plain_path(
    changes: dict[str, Any], llama: Any, open_session: Callable[..., LoadedModel]
) -> None:
    from advisor.backends.runtime.prepare import DeviceOptions

    jobs = few_jobs(2)
    session = open_session(llama, max_tokens=26, max_sequences=2, **{**PAGED, "kv_block_tokens": 4, **changes})
    assert tokens(session, jobs, kernel_path()) == tokens(session, jobs, DeviceOptions())


def test_a_cache_that_the_kernels_cannot_read_is_read_otherwise(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.prepare import DeviceOptions, prepared_session

    session = open_session(llama, max_tokens=80, kv_format="int4")
    with prepared_session(session, kernel_path()) as ready:
        assert not ready.runner.kernels
    jobs = few_jobs(3)
    assert tokens(session, jobs, kernel_path()) == tokens(session, jobs, DeviceOptions())


TIGHT: dict[str, Any] = {"max_tokens": 12, "max_sequences": 3, **PAGED, "kv_block_tokens": 4, "kv_capacity_tokens": 20}
"""A cache too small for three sequences of twelve tokens."""


def test_preemption_on_the_devices_path(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest((3 + i, 4, 5), 7) for i in range(3)]
    session = open_session(llama, **TIGHT)
    plain = serve(session, jobs, concurrency=None)
    assert plain.preemptions > 0
    assert tokens(session, jobs, kernel_path()) == [done.tokens for done in plain.finished]


@pytest.mark.slow
def test_preemption_and_ends_of_text_on_the_devices_path(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve
    from advisor.backends.runtime.prepare import DeviceOptions

    jobs = [GenerationRequest((3 + i, 4, 5), 7) for i in range(3)]
    session, before = open_session(llama, **TIGHT), llama.generation_config.eos_token_id
    llama.generation_config.eos_token_id = serve(session, jobs, concurrency=None).finished[0].tokens[2]
    try:
        assert tokens(session, jobs, kernel_path(), ignore_eos=False) == tokens(session, jobs, DeviceOptions(), ignore_eos=False)
    finally:
        llama.generation_config.eos_token_id = before


def test_drawn_tokens_are_those_of_the_plain_path(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.prepare import DeviceOptions
    from advisor.backends.runtime.sampler import Sampling

    session, sampling = open_session(llama, max_tokens=26, max_sequences=2, **PAGED), Sampling(temperature=0.8, top_k=20, seed=3)
    assert tokens(session, few_jobs(5), kernel_path(), sampling=sampling) == tokens(
        session, few_jobs(5), DeviceOptions(), sampling=sampling
    )


def test_padding_entries_write_nothing_and_read_nothing(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    """Three sequences decode as a batch of four entries; what the cache holds elsewhere stays as it was, poison included."""
    import torch

    from advisor.backends.runtime.cache.store import ModelFormat
    from advisor.backends.runtime.device.decode_batch import DecodeBatch, DecodeEntry
    from advisor.backends.runtime.prepare import prepared_session

    session = open_session(llama, max_tokens=32, max_sequences=4, **PAGED)
    with prepared_session(session, kernel_path()) as ready, torch.inference_mode():
        pool, batch = ready.runner.pool, DecodeBatch(4, torch.device("cpu"))
        memories = [store.data for store in (*pool.keys, *pool.values) if isinstance(store, ModelFormat)]
        assert len(memories) == 4
        for memory in memories:
            memory.fill_(float("nan"))
        sequences = [pool.open() for _ in range(3)]
        for sequence in sequences:
            pool.allocate(sequence, 2)
        placed = [DecodeEntry(number=i, row=sequence.row, position=0, stored=0, token=5 + i) for i, sequence in enumerate(sequences)]
        batch.set_entries(placed, 4, None)
        logits = ready.runner.forward(ready.runner.decoding(batch, 4, sequences), batch.ids, batch.positions, None)
        assert not logits[:3].isnan().any()
        written = torch.zeros(pool.config.blocks, pool.config.block_tokens, dtype=torch.bool)
        written[[sequence.blocks[0] for sequence in sequences], 0] = True
        for memory in memories:
            assert torch.equal(~memory.isnan().any(-1).any(1), written)
