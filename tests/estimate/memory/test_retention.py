"""What windows, first tokens and patterns of blocks do to memory and time on paper, against counts by hand and the real runtime."""

from dataclasses import replace

import pytest

from advisor.backends.deployment import (
    Attention,
    AttentionBackend,
    Batching,
    BatchPolicy,
    CacheRetention,
    DecodeMethod,
    Deployment,
    KvCache,
    KvLayout,
    Pattern,
    Weights,
)
from advisor.backends.techniques import by_name
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.memory.ledger import footprint, ledger
from advisor.estimate.memory.retention import retained_tokens, transient_tokens
from advisor.estimate.operators.build import PricingModel, mixing_operators
from advisor.estimate.operators.types import AttentionCall, Phase, StepPart
from advisor.estimate.operators.visible import causal_scores
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Request, Workload

LLAMA = find_model("meta-llama/Meta-Llama-3.1-8B")
ENGINE = load_engine("advisor")
TOKEN_BYTES = 32 * 2 * 8 * 128 * 2
LONG = Workload(prompt_tokens=16384, output_tokens=1024, concurrency=8)
PAGED = KvCache(KvLayout.PAGED, 16)


def deployed(kv: KvCache = PAGED, attention: Attention = Attention(AttentionBackend.SDPA), batching: Batching | None = None) -> Deployment:  # noqa: B008  # frozen
    return Deployment(LLAMA, Weights("bf16"), attention, kv, batching=batching or Batching(max_sequences=8), engine="advisor")


def attention_of(deployment: Deployment, part: StepPart) -> AttentionCall:
    (call,) = [operator for operator in mixing_operators(PricingModel.of(deployment), part) if isinstance(operator, AttentionCall)]
    return call


@pytest.fixture
def estimator() -> Estimator:
    return Estimator(CatalogueMachine(load_hardware("h100-sxm"), ENGINE.gpu), ENGINE)


def test_every_sequence_keeps_its_window_in_whole_blocks_and_one_prompt_passes_through_whole() -> None:
    """1,024 newest tokens touch at most 65 blocks of 16, four first ones one more; the rest of one prompt is held while it passes."""
    deployment = deployed(replace(PAGED, window=1024, sink_tokens=4))
    assert retained_tokens(deployment, 17408) == 66 * 16
    memory = ledger(deployment, LONG, ENGINE, 8)
    assert memory.transient_bytes == (16384 - 66 * 16) * TOKEN_BYTES
    assert memory.kv_bytes == 8 * 66 * 16 * TOKEN_BYTES + memory.transient_bytes
    line = footprint(deployment, LONG, ENGINE)
    assert line.total_bytes(8) == pytest.approx(memory.total_bytes, rel=1e-12)


def test_chunks_of_a_prompt_take_at_most_the_token_budget_in_addition_to_windows() -> None:
    chunked = deployed(replace(PAGED, window=1024), batching=Batching(BatchPolicy.CONTINUOUS, 8, 512, chunked=True))
    assert transient_tokens(chunked, LONG, ENGINE) == 512
    short = LONG.model_copy(update={"prompt_tokens": 800})
    assert transient_tokens(chunked, short, ENGINE) == 0


def test_draft_tokens_need_cache_in_addition_to_the_window() -> None:
    plain = deployed(replace(PAGED, window=1024))
    drafted = replace(plain, decoding=replace(plain.decoding, method=DecodeMethod.PROMPT_LOOKUP, draft_tokens=17))
    assert retained_tokens(drafted, 9000) - retained_tokens(plain, 9000) == 16


def test_a_sliding_window_frees_a_paged_cache_and_leaves_a_contiguous_one() -> None:
    sliding = Attention(AttentionBackend.SDPA, window=4096)
    assert retained_tokens(deployed(attention=sliding), 17408) == CacheRetention(4096).blocks(17408, 16) * 16
    assert retained_tokens(deployed(KvCache(), sliding), 17408) == 17408
    assert retained_tokens(deployed(attention=Attention(AttentionBackend.SDPA, pattern=Pattern(1024))), 17408) == 17408


def test_what_decoding_reads_is_what_stays(estimator: Estimator) -> None:
    part = StepPart(Phase.DECODE, 8, 1, 16384)
    assert attention_of(deployed(), part).kv_tokens == 16384
    assert attention_of(deployed(replace(PAGED, window=1020, sink_tokens=4)), part).kv_tokens == 1024
    assert attention_of(deployed(attention=Attention(AttentionBackend.SDPA, window=4096)), part).kv_tokens == 4096
    assert attention_of(deployed(KvCache(), Attention(AttentionBackend.SDPA, window=4096)), part).kv_tokens == 16384
    pattern = Pattern(1024, 64, 3)
    assert attention_of(deployed(attention=Attention(AttentionBackend.SDPA, pattern=pattern)), part).kv_tokens == 1024 + 64 + 3 * 64 + 64


def test_chunks_of_a_prompt_read_what_stays_and_themselves() -> None:
    part = StepPart(Phase.PREFILL, 1, 512, 16384)
    assert attention_of(deployed(replace(PAGED, window=1024)), part).kv_tokens == 1024 + 511
    whole = StepPart(Phase.PREFILL, 1, 16384, 16384)
    assert attention_of(deployed(replace(PAGED, window=1024)), whole).kv_tokens == 16384


def test_the_scores_of_a_window_are_counted_row_by_row() -> None:
    for queries, keys, span in ((7, 7, 3), (4, 9, 3), (5, 20, 30), (1, 1, 1), (6, 9, 5)):
        by_hand = sum(min(index + 1, span) for index in range(keys - queries, keys))
        assert causal_scores(queries, keys, span) == by_hand


def test_prompts_under_a_window_take_a_share_of_dense_attention(estimator: Estimator) -> None:
    whole = StepPart(Phase.PREFILL, 1, 16384, 16384)
    dense, sliding, eager = (
        attention_of(deployed(attention=attention), whole)
        for attention in (
            Attention(AttentionBackend.SDPA),
            Attention(AttentionBackend.SDPA, window=1024),
            Attention(AttentionBackend.EAGER, window=1024),
        )
    )
    assert (dense.computed_share, eager.computed_share) == (1.0, 1.0)
    assert sliding.computed_share == pytest.approx(causal_scores(16384, 16384, 1024 + 64) / causal_scores(16384, 16384, 16384))
    assert estimator.machine.attention_s(sliding) < 0.3 * estimator.machine.attention_s(dense)


def test_more_sequences_fit_and_none_is_preempted(estimator: Estimator) -> None:
    """On 80 GiB, 17,408 tokens of 128 KiB each leave room for fewer than thirty whole sequences and for hundreds of windows."""
    many = LONG.model_copy(update={"concurrency": 128})
    whole, windowed = (
        deployed(kv, batching=Batching(BatchPolicy.CONTINUOUS, 128, 2048)) for kv in (PAGED, replace(PAGED, window=1020, sink_tokens=4))
    )
    most = estimator.memory.max_sequences(whole, many), estimator.memory.max_sequences(windowed, many)
    assert most[0] < 30 < 300 < most[1]
    served = estimator.simulate(windowed, many)
    assert served.preemptions == 0


@pytest.mark.parametrize("name", ["kv-window", "kv-sinks", "attention-sliding-window", "attention-block-sparse"])
def test_closed_form_and_simulation_agree_that_it_is_no_slower(name: str, estimator: Estimator) -> None:
    request = Request(workload=LONG, require=(name,))
    start = deployed(batching=Batching(BatchPolicy.CONTINUOUS, 8, 2048))
    technique = by_name(name)
    assert technique.refuse(request, start) is None
    after = technique.sketch(start, request)
    assert estimator.steady_state(after, LONG).tpot_ms < estimator.steady_state(start, LONG).tpot_ms
    simulated = [estimator.metrics(stack, LONG).tpot_ms_mean for stack in (after, start)]
    assert simulated[0] is not None
    assert simulated[1] is not None
    assert simulated[0].value < simulated[1].value


def test_a_draft_model_sees_and_keeps_everything(estimator: Estimator) -> None:
    request = Request(workload=LONG)
    start = by_name("decode-draft").sketch(deployed(), request)
    windowed = replace(start, kv=replace(start.kv, window=1024), attention=Attention(AttentionBackend.SDPA, window=4096))
    pricers = estimator.pricer(start).draft, estimator.pricer(windowed).draft
    assert all(pricer is not None for pricer in pricers)
    assert len({pricer.decode_s(8, 16384) for pricer in pricers if pricer is not None}) == 1


@pytest.mark.parametrize("policy", [BatchPolicy.STATIC, BatchPolicy.CONTINUOUS])
def test_the_cache_of_a_concrete_run_counts_what_stays_and_the_prompt_that_passes(policy: BatchPolicy, estimator: Estimator) -> None:
    batching = Batching(policy, 2, 0 if policy == BatchPolicy.STATIC else 2048, chunked=policy == BatchPolicy.CONTINUOUS)
    deployment = deployed(replace(PAGED, window=1024), batching=batching)
    workload = LONG.model_copy(update={"concurrency": 2, "prompt_tokens": 2048})
    metrics = estimator.metrics(deployment, workload, lengths=[(2048, 1024)] * 2)
    assert metrics.kv_cache_gib is not None
    tokens = metrics.kv_cache_gib.value * GIB / TOKEN_BYTES
    assert 2048 <= tokens <= 2048 + CacheRetention(1024).blocks(3072, 16) * 16
