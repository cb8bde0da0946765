"""Every exact implementation gives the same attention, and the fastest is used, also for similar shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.detection.compiler import cpp_compiler
from advisor.backends.model.loaded_model import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

    from advisor.backends.runtime.attention.autotune import Autotuner
    from advisor.backends.runtime.attention.exact import Call, Implementation
    from advisor.backends.runtime.engine import GenerationRequest
    from advisor.kernels.attention.flex import AttentionMask


def call(sequences: int = 3, tokens: int = 1, keys: int = 20, *, is_causal: bool = False, **options: Any) -> Call:
    import torch

    from advisor.backends.runtime.attention.exact import Call
    from advisor.backends.runtime.cache.store import KvBatch
    from advisor.kernels.attention.flex import AttentionMask
    from advisor.kernels.attention.paged_attention import additive_mask, widen_mask

    torch.manual_seed(0)
    query = torch.randn(sequences, tokens, 4, 8)
    cached = KvBatch(torch.randn(sequences, 2, keys, 8)), KvBatch(torch.randn(sequences, 2, keys, 8))
    last = 0 if is_causal else keys - tokens
    positions = torch.arange(last, last + tokens).expand(sequences, tokens)

    def mask() -> Tensor:
        return widen_mask(additive_mask(positions, keys, torch.float32), 2)

    def bounds() -> AttentionMask:
        return AttentionMask(positions=positions)

    return Call(query=query, cached=cached, mask=mask, bounds=bounds, most=4, is_causal=is_causal, scale=0.4, **options)


@pytest.mark.parametrize(
    ("sequences", "tokens", "keys", "is_causal"), [(3, 1, 20, False), (2, 4, 33, False), (1, 17, 17, True), (1, 5, 16, True)]
)
def test_every_implementation_gives_the_same(sequences: int, tokens: int, keys: int, is_causal: bool) -> None:
    import torch

    from advisor.backends.runtime.attention.exact import implementations

    plain = call(sequences, tokens, keys, is_causal=is_causal)
    available = implementations(plain)
    assert set(available) == {"sdpa", "eager"}
    torch.testing.assert_close(available["sdpa"](plain), available["eager"](plain), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("option", ["softcap", "sinks", "rerotated"])
def test_calls_that_fused_kernels_do_not_support_use_eager_attention(option: str) -> None:
    import torch

    from advisor.backends.runtime.attention.exact import implementations

    options: dict[str, dict[str, Any]] = {
        "softcap": {"softcap": 3.0},
        "sinks": {"sinks": torch.zeros(4)},
        "rerotated": {"rerotated": torch.zeros(3, 1, 4, 8), "first": 2},
    }
    assert set(implementations(call(**options[option]))) == {"eager"}


class ManualClock:
    """A clock that only an implementation advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def timed() -> tuple[Autotuner, dict[str, int], Callable[[str, float], None]]:
    """An autotuner whose implementations take a set time on its clock, their numbers of calls, and a function that sets a time."""
    from advisor.backends.runtime.attention import exact
    from advisor.backends.runtime.attention.autotune import Autotuner

    clock, calls, seconds = ManualClock(), {"sdpa": 0, "eager": 0}, {"sdpa": 1.0, "eager": 1.0}

    def implementation(name: str) -> Implementation:
        def run(call: Call) -> Tensor:
            calls[name] += 1
            clock.now += seconds[name]
            return exact.eager(call)

        return run

    autotuner = Autotuner(clock=clock, candidates=lambda _: {name: implementation(name) for name in calls})
    return autotuner, calls, seconds.__setitem__


def test_the_fastest_implementation_is_used_and_nothing_is_measured_while_serving(timed: Any) -> None:
    from advisor.backends.runtime.attention.autotune import shape_class_of

    autotuner, calls, set_seconds = timed
    set_seconds("sdpa", 3.0)
    with autotuner.tuning(100.0):
        autotuner.compute(call())
    assert autotuner.choices[shape_class_of(call())].implementation == "eager"
    before = dict(calls)
    autotuner.compute(call(keys=19))
    autotuner.compute(call(sequences=8, keys=500))
    assert calls == {"sdpa": before["sdpa"], "eager": before["eager"] + 2}, "the nearest measured shape decides"
    assert len(autotuner.choices) == 1


def test_without_a_measurement_the_first_implementation_is_used(timed: Any) -> None:
    autotuner, calls, _ = timed
    autotuner.compute(call())
    assert calls == {"sdpa": 1, "eager": 0}


def test_times_of_one_token_are_not_used_for_whole_prompts(timed: Any) -> None:
    autotuner, calls, set_seconds = timed
    set_seconds("sdpa", 3.0)
    with autotuner.tuning(100.0):
        autotuner.compute(call())
    measured = calls["sdpa"]
    autotuner.compute(call(1, 20, 20, is_causal=True))
    assert calls["sdpa"] == measured + 1


def test_measuring_ends_after_its_time_limit(timed: Any) -> None:
    autotuner, _, _ = timed
    with autotuner.tuning(1.0):
        autotuner.compute(call())
        autotuner.compute(call(sequences=16))
    assert len(autotuner.choices) == 1


def test_an_implementation_that_fails_is_not_used_and_the_reason_names_it() -> None:
    from advisor.backends.runtime.attention import exact
    from advisor.backends.runtime.attention.autotune import Autotuner

    def broken(_: Call) -> Tensor:
        raise RuntimeError("No available kernel")

    autotuner = Autotuner(candidates=lambda _: {"sdpa": broken, "eager": exact.eager})
    with autotuner.tuning(1.0):
        autotuner.compute(call())
    (reason,) = autotuner.reasons
    assert reason.startswith("steps of up to 4 x 1 tokens that attend to up to 32: eager (")
    assert reason.endswith("not able: sdpa)")


def test_a_loaded_model_times_implementations_before_it_serves_and_keeps_the_times(
    llama: Any, open_session: Callable[..., LoadedModel]
) -> None:
    from advisor.backends.runtime.attention.autotune import Autotuner
    from advisor.backends.runtime.engine import GenerationRequest, serve

    autotuner = Autotuner()
    session = open_session(llama, attention="flash", autotuner=autotuner, kv_layout="paged", kv_block_tokens=8, kv_prefix_reuse=True)
    jobs = [GenerationRequest(tuple(range(3, 40)), 5) for _ in range(3)]
    first = serve(session, jobs, concurrency=None)
    choices = dict(autotuner.choices)
    assert any(kind.is_causal for kind in choices)
    assert any(kind.tokens == 1 and kind.sequences == 4 for kind in choices)
    again = serve(session, jobs, concurrency=None)
    assert autotuner.choices == choices
    assert first.kv_used_bytes_peak == again.kv_used_bytes_peak < first.kv_bytes, "trials leave no trace in the pool"


@pytest.mark.usefixtures("uncompiled_flex")
def test_flex_gives_the_tokens_of_the_model(
    llama: Any,
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest(tuple(range(3, 20 + index)), 6) for index in range(4)]
    session = open_session(llama, attention="flex", kv_layout="paged", kv_block_tokens=8, batching="continuous", token_budget=12)
    assert [done.tokens for done in serve(session, jobs, concurrency=3).finished] == generate(llama, jobs)


@pytest.mark.slow
@pytest.mark.skipif(cpp_compiler() is None, reason="compiles C++")
@pytest.mark.parametrize(("tokens", "most"), [(1, 1), (150, 0)], ids=["a step", "a chunk"])
def test_a_compiled_kernel_looks_at_every_block_of_a_long_cache(tokens: int, most: int) -> None:
    import torch

    from advisor.backends.runtime.attention import exact

    long = replace(call(1, tokens, 600), most=most)
    torch.testing.assert_close(exact.flex(long), exact.sdpa(long), rtol=1e-4, atol=1e-5)


def test_padding_of_queries_masks_no_block() -> None:
    import torch

    from advisor.backends.runtime.attention import exact
    from advisor.kernels.attention.flex import AttentionMask

    query, rows = torch.zeros(1, 1, 4, 8), torch.zeros(1, 2, 600, 8)
    *_, bounds = exact._padded_call(query, rows, rows, AttentionMask(positions=torch.tensor([[599]])), 1)
    count, _ = bounds.blocks(128, 8)
    assert count.tolist() == [[5]], "of 128 tokens each, the last of which has position 599"


def test_a_single_query_is_padded_to_two() -> None:
    import torch
    from torch.nn.attention import flex_attention

    from advisor.backends.runtime.attention import exact

    queries: list[int] = []

    def kernel(query: Tensor, *tensors: Any, **options: Any) -> Any:
        queries.append(query.shape[2])
        return flex_attention.flex_attention(query, *tensors, **options)

    single = replace(call(1, 1, 600), most=1)
    torch.testing.assert_close(exact.flex(single, kernel), exact.sdpa(single), rtol=2e-2, atol=2e-2)
    assert queries == [2]
