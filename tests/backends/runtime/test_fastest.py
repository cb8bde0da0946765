"""Every exact way gives the same attention, and the one that took least is taken, also for shapes nearby."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention

from advisor.backends.detection.compiler import cpp_compiler
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.attention import exact
from advisor.backends.runtime.attention.autotune import Autotuner, shape_class_of
from advisor.backends.runtime.attention.exact import Call, Implementation, implementations
from advisor.backends.runtime.cache.store import KvBatch
from advisor.backends.runtime.engine import GenerationRequest, serve
from advisor.kernels.attention.flex import AttentionMask
from advisor.kernels.attention.paged_attention import additive_mask, widen_mask


def call(sequences: int = 3, tokens: int = 1, keys: int = 20, *, is_causal: bool = False, **asked: Any) -> Call:
    torch.manual_seed(0)
    query = torch.randn(sequences, tokens, 4, 8)
    cached = KvBatch(torch.randn(sequences, 2, keys, 8)), KvBatch(torch.randn(sequences, 2, keys, 8))
    last = 0 if is_causal else keys - tokens
    positions = torch.arange(last, last + tokens).expand(sequences, tokens)

    def mask() -> Tensor:
        return widen_mask(additive_mask(positions, keys, torch.float32), 2)

    def bounds() -> AttentionMask:
        return AttentionMask(positions=positions)

    return Call(query=query, cached=cached, mask=mask, bounds=bounds, most=4, is_causal=is_causal, scale=0.4, **asked)


@pytest.mark.parametrize(
    ("sequences", "tokens", "keys", "is_causal"), [(3, 1, 20, False), (2, 4, 33, False), (1, 17, 17, True), (1, 5, 16, True)]
)
def test_every_way_gives_the_same(sequences: int, tokens: int, keys: int, is_causal: bool) -> None:
    asked = call(sequences, tokens, keys, is_causal=is_causal)
    able = implementations(asked)
    assert set(able) == {"sdpa", "written-out"}
    torch.testing.assert_close(able["sdpa"](asked), able["written-out"](asked), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("asked", [{"softcap": 3.0}, {"sinks": torch.zeros(4)}, {"rerotated": torch.zeros(3, 1, 4, 8), "first": 2}])
def test_what_fused_kernels_do_not_know_is_written_out(asked: dict[str, Any]) -> None:
    assert set(implementations(call(**asked))) == {"written-out"}


class Sundial:
    """A clock that goes on only when a way is used."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> tuple[Autotuner, dict[str, int], Callable[[str, float], None]]:
    """A chooser whose ways take as long as they are told to, and how often each was used."""
    clock, used, lasting = Sundial(), {"sdpa": 0, "written-out": 0}, {"sdpa": 1.0, "written-out": 1.0}

    def way(name: str) -> Implementation:
        def run(asked: Call) -> Tensor:
            used[name] += 1
            clock.now += lasting[name]
            return exact.written_out(asked)

        return run

    monkeypatch.setattr("advisor.backends.runtime.attention.autotune.implementations", lambda asked: {name: way(name) for name in used})
    return Autotuner(clock=clock), used, lasting.__setitem__


def test_the_way_that_took_least_is_taken_and_nothing_is_measured_while_serving(timed: Any) -> None:
    autotuner, used, takes = timed
    takes("sdpa", 3.0)
    with autotuner.tuning(100.0):
        autotuner.compute(call())
    assert autotuner.choices[shape_class_of(call())].implementation == "written-out"
    before = dict(used)
    autotuner.compute(call(keys=19))
    autotuner.compute(call(sequences=8, keys=500))
    assert used == {"sdpa": before["sdpa"], "written-out": before["written-out"] + 2}, "the nearest kind that was measured decides"
    assert len(autotuner.choices) == 1


def test_without_a_measurement_the_first_way_is_taken(timed: Any) -> None:
    autotuner, used, _ = timed
    autotuner.compute(call())
    assert used == {"sdpa": 1, "written-out": 0}


def test_one_token_says_nothing_about_whole_prompts(timed: Any) -> None:
    autotuner, used, takes = timed
    takes("sdpa", 3.0)
    with autotuner.tuning(100.0):
        autotuner.compute(call())
    measured = used["sdpa"]
    autotuner.compute(call(1, 20, 20, is_causal=True))
    assert used["sdpa"] == measured + 1


def test_measuring_ends_when_its_time_is_up(timed: Any) -> None:
    autotuner, _, _ = timed
    with autotuner.tuning(1.0):
        autotuner.compute(call())
        autotuner.compute(call(sequences=16))
    assert len(autotuner.choices) == 1


def test_a_way_that_fails_is_not_taken_and_the_reason_says_so(timed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    autotuner, _, _ = timed

    def broken(_: Call) -> Tensor:
        raise RuntimeError("No available kernel")

    monkeypatch.setattr(
        "advisor.backends.runtime.attention.autotune.implementations", lambda _: {"sdpa": broken, "written-out": exact.written_out}
    )
    with autotuner.tuning(1.0):
        autotuner.compute(call())
    (reason,) = autotuner.reasons
    assert reason.startswith("steps of up to 4 x 1 tokens that see up to 32: written-out (")
    assert reason.endswith("not able: sdpa)")


def test_a_session_tries_before_it_serves_and_remembers(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    autotuner = Autotuner()
    session = open_session(llama, attention="flash", autotuner=autotuner, kv_layout="paged", kv_block_tokens=8, kv_prefix_reuse=True)
    jobs = [GenerationRequest(tuple(range(3, 40)), 5) for _ in range(3)]
    first = serve(session, jobs, concurrency=None)
    known = dict(autotuner.choices)
    assert any(kind.is_causal for kind in known)
    assert any(kind.tokens == 1 and kind.sequences == 4 for kind in known)
    again = serve(session, jobs, concurrency=None)
    assert autotuner.choices == known
    assert first.kv_used_bytes_peak == again.kv_used_bytes_peak < first.kv_bytes, "trials leave no trace in the pool"


def test_flex_gives_the_tokens_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
    llama: Any,
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr("advisor.backends.runtime.attention.exact.compiled", lambda _: flex_attention.flex_attention)
    jobs = [GenerationRequest(tuple(range(3, 20 + index)), 6) for index in range(4)]
    session = open_session(llama, attention="flex", kv_layout="paged", kv_block_tokens=8, batching="continuous", token_budget=12)
    assert [done.tokens for done in serve(session, jobs, concurrency=3).finished] == generate(llama, jobs)


@pytest.mark.slow
@pytest.mark.skipif(cpp_compiler() is None, reason="compiles C++")
@pytest.mark.parametrize(("tokens", "most"), [(1, 1), (150, 0)], ids=["a step", "a chunk"])
def test_a_compiled_kernel_looks_at_every_block_of_a_long_cache(tokens: int, most: int) -> None:
    asked = replace(call(1, tokens, 600), most=most)
    torch.testing.assert_close(exact.flex(asked), exact.sdpa(asked), rtol=1e-4, atol=1e-5)


def test_what_is_added_to_a_run_of_queries_hides_no_block_from_it() -> None:
    query, rows = torch.zeros(1, 1, 4, 8), torch.zeros(1, 2, 600, 8)
    *_, bounds = exact._grown(query, rows, rows, AttentionMask(positions=torch.tensor([[599]])), 1)
    count, _ = bounds.blocks(128, 8)
    assert count.tolist() == [[5]], "of 128 tokens each, the last of which holds place 599"


def test_no_kernel_is_made_for_a_single_query(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(query: Tensor, *rest: Any, **asked: Any) -> Any:
        seen.append(query.shape[2])
        return flex_attention.flex_attention(query, *rest, **asked)

    monkeypatch.setattr("advisor.backends.runtime.attention.exact.compiled", lambda _: watched)
    asked = replace(call(1, 1, 600), most=1)
    torch.testing.assert_close(exact.flex(asked), exact.sdpa(asked), rtol=2e-2, atol=2e-2)
    assert seen == [2]
