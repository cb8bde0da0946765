"""Published facts that fall out of the estimator's physics: no technique has a factor of its own."""

from dataclasses import replace
from functools import lru_cache
from statistics import fmean

import pytest

from advisor.backends.deployment import (
    Attention,
    AttentionBackend,
    Batching,
    BatchPolicy,
    DecodeMethod,
    Decoding,
    Deployment,
    KvCache,
    KvLayout,
    Parallel,
    Weights,
)
from advisor.backends.technique import Technique, acceptance_prior, quality_prior
from advisor.backends.techniques import by_name
from advisor.backends.techniques.attention_block_sparse import AttentionBlockSparse
from advisor.backends.techniques.attention_sliding_window import AttentionSlidingWindow
from advisor.backends.techniques.kv_sinks import KvSinks
from advisor.backends.techniques.kv_window import KvWindow
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.profiles.engines import load_engine
from advisor.profiles.evidence import load_evidence
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Request, Workload

LLAMA_1B = "meta-llama/Llama-3.2-1B"
LLAMA_8B = "meta-llama/Meta-Llama-3.1-8B"
LLAMA_70B = "meta-llama/Meta-Llama-3.1-70B"


def estimator(hardware: str, engine: str = "vllm") -> Estimator:
    settings = load_engine(engine)
    return Estimator(CatalogueMachine(load_hardware(hardware), settings.gpu), settings)


def deployment(model: str, weights: str = "bf16", *, kv: str = "bf16", tp: int = 1, data: int = 1, slots: int = 256) -> Deployment:
    return Deployment(
        model=find_model(model),
        weights=Weights(weights, 128 if weights == "int4" else None),
        attention=Attention(AttentionBackend.SDPA),
        kv=KvCache(KvLayout.PAGED, 16, kv),
        batching=Batching(BatchPolicy.CONTINUOUS, slots, 0),
        parallel=Parallel(tensor=tp, data=data),
    )


def decode_ms(hardware: str, model: str, weights: str, batch: int) -> float:
    return estimator(hardware).pricer(deployment(model, weights)).decode_s(batch, 512) * 1e3


def int4_share(hardware: str, model: str, batch: int) -> float:
    """How long a decoding step with weights in int4 takes as a share of one in bf16."""
    return decode_ms(hardware, model, "int4", batch) / decode_ms(hardware, model, "bf16", batch)


def first_loss(hardware: str, model: str) -> int:
    """The least batch, of powers of two, from which int4 is slower than bf16."""
    return next((batch for batch in (2**k for k in range(11)) if int4_share(hardware, model, batch) > 1), 2048)


@pytest.mark.parametrize(("hardware", "model"), [("h200-sxm", LLAMA_70B), ("h100-sxm", LLAMA_8B)])
def test_int4_weights_win_at_batch_one_on_hopper_and_lose_from_a_batch_of_eight_to_256(hardware: str, model: str) -> None:
    assert int4_share(hardware, model, 1) < 0.6
    assert 8 <= first_loss(hardware, model) <= 256, first_loss(hardware, model)


@pytest.mark.parametrize("hardware", ["rtx-4090", "l40s"])
def test_int4_weights_win_longer_where_memory_is_slow(hardware: str) -> None:
    """Published kernels of an L40S: 3.5 times at 17 to 64 rows, where an H200 gains nothing."""
    assert first_loss(hardware, LLAMA_8B) >= 2 * first_loss("h100-sxm", LLAMA_8B), first_loss(hardware, LLAMA_8B)
    assert int4_share(hardware, LLAMA_8B, 32) < 0.7 * int4_share("h100-sxm", LLAMA_8B, 32), int4_share(hardware, LLAMA_8B, 32)


@pytest.mark.parametrize(("hardware", "measured"), [("h100-sxm", 912.0), ("h200-sxm", 4166.0)])
def test_the_cliff_of_a_full_cache_is_where_it_was_measured(hardware: str, measured: float) -> None:
    """TensorRT-LLM 1.0, Llama-3.1-70B fp8, 128 in, 2048 out, one GPU: a fifth more bandwidth than memory explains 4.6 times."""
    predicted = offline(hardware).throughput_tok_s
    assert predicted is not None
    assert predicted.value == pytest.approx(measured, rel=0.25), f"{predicted.value:.0f} tok/s against {measured:.0f}"
    assert predicted.low < measured < predicted.high


def test_more_memory_is_worth_more_than_its_bandwidth() -> None:
    small, large = (offline(hardware).throughput_tok_s for hardware in ("h100-sxm", "h200-sxm"))
    assert small is not None
    assert large is not None
    assert large.value / small.value == pytest.approx(4166 / 912, rel=0.25), large.value / small.value


def test_the_cliff_is_reported_as_requests_that_fit_at_once() -> None:
    """912 tok/s from steps that read 70 GB are two dozen requests in flight; the low end leaves room for what is not exact."""
    fits = offline("h100-sxm").max_concurrency
    assert fits is not None
    assert 15 < fits.value < 40
    assert fits.low < 0.8 * fits.value


@lru_cache(maxsize=4)
def offline(hardware: str) -> Metrics:
    workload = Workload(prompt_tokens=128, output_tokens=2048, load=Load.OFFLINE)
    return estimator(hardware, "tensorrt-llm").metrics(deployment(LLAMA_70B, "fp8", kv="fp8", slots=2048), workload)


def fp8_cache_gain(workload: Workload, *, weights: str = "fp8", model: str = LLAMA_8B) -> float:
    engine = estimator("h100-sxm")
    speed = [engine.simulate(deployment(model, weights, kv=kv), workload).throughput_tok_s for kv in ("bf16", "fp8")]
    return speed[1] / speed[0]


def test_fp8_cache_is_neutral_while_memory_suffices() -> None:
    gain = fp8_cache_gain(Workload(prompt_tokens=512, output_tokens=128, concurrency=8))
    assert 0.95 < gain < 1.05, gain


def test_fp8_cache_gains_a_seventh_at_twenty_thousand_tokens() -> None:
    """vLLM's post of 2026-04-22: eight requests of 20 k tokens on an H100, Llama-3.1-8B: 15.18 ms a token in bf16, 450 to 517 tok/s."""
    gain = fp8_cache_gain(Workload(prompt_tokens=20_000, output_tokens=500, concurrency=8), weights="bf16")
    assert gain == pytest.approx(1.15, abs=0.1), gain
    step_ms = estimator("h100-sxm").pricer(deployment(LLAMA_8B)).decode_s(8, 20_250) * 1e3
    assert step_ms == pytest.approx(15.18, rel=0.15), step_ms


def test_fp8_cache_gains_most_when_memory_is_what_limits() -> None:
    """Published: 2.6 times. A cache of twice as many tokens explains a factor of two, what bf16 loses by preempting is beyond it."""
    short = fp8_cache_gain(Workload(prompt_tokens=128, output_tokens=128, concurrency=8), model=LLAMA_70B)
    full = fp8_cache_gain(Workload(prompt_tokens=256, output_tokens=4096, concurrency=64), model=LLAMA_70B)
    assert 1.8 < full < 3.0, full
    assert 0.95 < short < 1.1, short


def drafting_gain(batch: int, draft_tokens: int = 3) -> float:
    """Speed-up of a 70B model on four devices by a draft of 1B with the published acceptance."""
    prior = acceptance_prior(load_evidence(), "decode:draft", "chat")
    plain = deployment(LLAMA_70B, tp=4)
    decoding = Decoding(DecodeMethod.DRAFT, draft_tokens, prior.middle, (prior.low, prior.high), draft_model=find_model(LLAMA_1B))
    engine = estimator("h100-sxm")
    alone, drafting = engine.pricer(plain), engine.pricer(replace(plain, decoding=decoding))
    return alone.decode_s(batch, 512) / drafting.decode_s(batch, 512) * drafting.tokens_per_decode


def test_drafts_help_one_stream_as_third_parties_found_not_as_their_authors_say() -> None:
    """vLLM's post of 2024-10-17: up to 1.5 times for a 70B model on four H100; Spec-Bench 1.5 to 1.8; authors of EAGLE-3 5.6."""
    assert drafting_gain(1) == pytest.approx(1.5, rel=0.2), drafting_gain(1)
    assert all("Spec-Bench" in row.source for row in load_evidence().acceptance_rows if row.effect == "decode:draft")


def test_drafts_slow_serving_at_high_load() -> None:
    """The same post: 1.4 times slower with a draft, 1.8 with looked-up tokens."""
    slower = 1 / drafting_gain(256)
    assert 1.2 < slower < 2.0, slower


def split_against_replicas(hardware: str, devices: int, model: str = LLAMA_8B) -> float:
    workload = Workload(prompt_tokens=1024, output_tokens=128, concurrency=64)
    engine = estimator(hardware)
    split = engine.simulate(deployment(model, "fp8", tp=devices), workload)
    replicas = engine.simulate(deployment(model, "fp8", data=devices), workload)
    return split.throughput_tok_s / replicas.throughput_tok_s


@pytest.mark.parametrize("hardware", ["l40s", "rtx-pro-6000-blackwell"])
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_tensor_parallelism_over_pcie_is_a_loss_of_throughput(hardware: str, devices: int) -> None:
    """A sum of a few megabytes takes milliseconds between cards without NVLink."""
    ratio = split_against_replicas(hardware, devices)
    assert ratio < 0.75, ratio
    assert split_against_replicas("h100-sxm", devices) > 1.2 * ratio


@pytest.mark.parametrize("hardware", ["l40s", "rtx-pro-6000-blackwell"])
def test_tensor_parallelism_over_pcie_delays_the_first_token(hardware: str) -> None:
    alone = Workload(prompt_tokens=4096, output_tokens=16, concurrency=1)
    times = [estimator(hardware).simulate(deployment(LLAMA_1B, "fp8", tp=tp), alone).ttft_s for tp in (1, 2, 4, 8)]
    first = [fmean(single) for single in times]
    assert first == sorted(first), first


def perplexity_added(model: str, base: float) -> float:
    """Perplexity that q2_K is expected to add to that of the unmodified model."""
    prior = load_evidence().quality("weights:gguf-q2_k", find_model(model).parameters, model=model)
    assert prior is not None
    assert prior.tasks == ("perplexity",)
    return base * prior.middle / 100


def test_two_bits_hurt_a_model_more_the_more_it_was_trained() -> None:
    """llama.cpp, examples/perplexity: q2_K adds 0.63 to Llama-2-7B and 3.52 to Llama-3-8B, of nearly the same size."""
    assert perplexity_added("meta-llama/Llama-2-7b-hf", 5.795) == pytest.approx(0.63, abs=0.1)
    assert perplexity_added("meta-llama/Meta-Llama-3-8B", 6.233) == pytest.approx(3.52, abs=0.4)


def test_damage_follows_training_also_without_the_very_model() -> None:
    """Each of the two from all others: the generations keep apart."""
    evidence = load_evidence()

    def without(left_out: str, model: str) -> float:
        others = replace(evidence, quality_rows=tuple(row for row in evidence.quality_rows if row.model != left_out))
        prior = others.quality("weights:gguf-q2_k", find_model(model).parameters, model=model)
        assert prior is not None
        return prior.middle

    older, newer = without("Llama-2-7B", "meta-llama/Llama-2-7b-hf"), without("Llama-3-8B", "meta-llama/Meta-Llama-3-8B")
    assert older == pytest.approx(10.8, abs=6)
    assert newer == pytest.approx(56.4, abs=6)


def test_what_pruning_costs_depends_on_the_task() -> None:
    """arXiv 2408.11796, half of the layers of Llama-3.1-8B: MMLU 65.3 to 58.7, GSM8K 48.6 to 16.8."""
    evidence, model = load_evidence(), "meta-llama/Meta-Llama-3.1-8B"

    def points_lost(task: str, base: float) -> float:
        prior = evidence.quality("pruning:depth-50", find_model(model).parameters, model=model, task=task)
        assert prior is not None
        assert prior.tasks == (task,)
        assert prior.low < prior.middle < prior.high
        return base * prior.middle / 100

    assert points_lost("mmlu", 65.3) == pytest.approx(6.6, abs=0.1)
    assert points_lost("gsm8k", 48.6) == pytest.approx(31.8, abs=0.1)
    assert evidence.quality("pruning:depth-50", 8_000_000_000, model=model, task="humaneval") is None


def test_techniques_say_what_their_loss_was_measured_on() -> None:
    model = find_model(LLAMA_8B)
    assert quality_prior(load_evidence(), model, "weights:int4-g128").tasks == ("perplexity",)
    assert quality_prior(load_evidence(), model, "kv:int8").tasks == ("mmlu",)


def test_what_a_cache_loses_does_not_follow_what_the_weights_were_trained_on() -> None:
    """exllamav2, doc/qcache_eval.md: four of seven rotated int4 caches of models of about 7 B lose a half to one and a half percent."""
    llama_2, llama_3 = (
        quality_prior(load_evidence(), find_model(model), "kv:int4-rotated") for model in ("meta-llama/Llama-2-7b-hf", LLAMA_8B)
    )
    assert llama_3.loss_pct == pytest.approx(llama_2.loss_pct, abs=0.15)
    assert llama_3.loss_pct > 0.3, llama_3


def test_a_window_is_expected_to_cost_between_nothing_and_what_endless_streams_cost() -> None:
    """arXiv 2309.17453, tables 1 and 2: Falcon-7B loses a half on 400 K tokens, Llama-2-13B a thousand times that."""
    stream = Request(workload=Workload(prompt_tokens=120_000, output_tokens=1000, concurrency=1))
    for technique in (KvWindow(), AttentionSlidingWindow()):
        effect = technique.quality(deployment(LLAMA_8B), load_evidence(), stream)
        assert effect.low_pct == 0, effect
        assert 48 < effect.loss_pct < 35000, effect
        assert effect.high_pct == pytest.approx(94_892, rel=0.01), effect


@pytest.mark.parametrize("kind", [KvWindow, KvSinks, AttentionSlidingWindow, AttentionBlockSparse])
def test_a_longer_reach_is_expected_to_lose_less_and_one_that_holds_everything_nothing(kind: type[Technique]) -> None:
    requested = Request(workload=Workload(prompt_tokens=7168, output_tokens=1024, concurrency=1))
    losses = []
    for window in (256, 1024, 4096, 8192):
        technique = by_name(kind.name, {"window": window})
        effect = technique.quality(deployment(LLAMA_8B), load_evidence(), requested)
        assert effect.low_pct <= effect.loss_pct <= effect.high_pct
        losses.append(effect.loss_pct)
    assert losses == sorted(losses, reverse=True), losses
    assert losses[0] > 1.5 * losses[2] > 0, losses
    assert losses[-1] == 0, losses
