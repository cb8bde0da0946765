"""Where ranges come from: strata, what was never compared, and the part of memory that is not exact."""

from dataclasses import replace

import pytest

from advisor.backends.deployment import Attention, AttentionBackend, Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.uncertainty.domain import calibration_domain, extrapolation_warning, extrapolations, model_kind
from advisor.estimate.uncertainty.ranges import WIDEST, contended_spread, spread, stratum_of
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Basis
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Workload

BUSY = Workload(prompt_tokens=1000, output_tokens=500, concurrency=16)


def deployment(model: str = "meta-llama/Meta-Llama-3.1-70B", engine: str = "vllm", **parallel: int) -> Deployment:
    return Deployment(
        find_model(model), Weights("fp8"), Attention(AttentionBackend.SDPA), KvCache(KvLayout.PAGED, 16, "fp8"),
        batching=Batching(BatchPolicy.CONTINUOUS, 16, 0),
        parallel=Parallel(**parallel), engine=engine,
    )  # fmt: skip


def estimator(hardware: str = "h200-sxm", engine: str = "vllm") -> Estimator:
    profile = load_engine(engine)
    return Estimator(CatalogueMachine(load_hardware(hardware), profile.gpu), profile)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("meta-llama/Meta-Llama-3.1-70B", "dense"),
        ("mistralai/Mixtral-8x7B-v0.1", "experts"),
        ("deepseek-ai/DeepSeek-V3", "latent"),
        ("nvidia/Nemotron-H-56B-Base-8K", "recurrent"),
    ],
)
def test_a_model_is_as_uncertain_as_its_least_certain_part(model: str, kind: str) -> None:
    assert model_kind(find_model(model)) == kind


def test_memory_of_an_engine_that_sizes_a_pool_is_a_stratum_of_its_own() -> None:
    stack = deployment("mistralai/Mixtral-8x7B-v0.1")
    assert stratum_of("memory", stack) == "pool"
    assert stratum_of("memory", replace(stack, engine="llama.cpp")) == ""
    assert stratum_of("tpot", stack) == ""


@pytest.mark.parametrize("metric", ["ttft", "tpot", "throughput", "prefill"])
def test_only_a_profile_of_the_machine_makes_a_time_more_certain_than_what_laboratories_differ_by(metric: str) -> None:
    below, above = spread(metric, Basis.PROFILED)
    for basis in (Basis.CATALOGUE, Basis.ARCHITECTURE, Basis.LITERATURE, Basis.DATASHEET):
        wide = spread(metric, basis)
        assert wide == spread(metric, Basis.DATASHEET)
        assert wide[0] < below < 1 < above < wide[1]


def test_a_tier_without_comparisons_takes_a_weaker_one() -> None:
    assert spread("memory", Basis.CATALOGUE) == spread("memory", Basis.DATASHEET)
    assert spread("nothing", Basis.CATALOGUE) == spread("nothing", Basis.DATASHEET)


@pytest.mark.parametrize("metric", ["ttft", "tpot", "throughput", "prefill"])
def test_what_was_disturbed_is_less_certain(metric: str) -> None:
    for basis in (Basis.PROFILED, Basis.CATALOGUE, Basis.ARCHITECTURE):
        below, above = spread(metric, basis)
        wide = contended_spread(metric, basis)
        assert wide[0] <= below
        assert wide[1] >= above
    assert contended_spread(metric, Basis.PROFILED) != spread(metric, Basis.PROFILED)


def test_what_was_never_compared_is_no_more_certain_than_any_time_that_was() -> None:
    for metric in ("ttft", "tpot", "throughput", "prefill"):
        below, above = spread(metric, Basis.DATASHEET)
        assert WIDEST[0] <= below
        assert above <= WIDEST[1]


def test_a_setting_within_what_was_compared_says_nothing() -> None:
    assert ("engine", "vllm") in calibration_domain().names
    assert extrapolation_warning(estimator().machine.basis, deployment(tensor=2), BUSY) is None


def test_every_gap_is_named() -> None:
    long = Workload(prompt_tokens=10_000_000, output_tokens=1, concurrency=2**17)
    said = extrapolation_warning(Basis.CATALOGUE, deployment(engine="advisor"), long)
    assert said is not None
    for words in ("engine advisor", "131,072 requests in flight", "10,000,001 tokens"):
        assert words in said, said


def test_a_device_without_measured_kernels_says_so() -> None:
    assert "kernels" in str(extrapolation_warning(Basis.DATASHEET, deployment(), BUSY))
    assert not list(extrapolations(Basis.DATASHEET, deployment(), BUSY)), "its tier has ranges of its own"


def test_a_profile_of_this_machine_is_compared_where_it_is_used() -> None:
    assert extrapolation_warning(Basis.PROFILED, deployment(engine="advisor"), BUSY) is None


def test_memory_is_uncertain_only_beyond_weights_and_cache() -> None:
    prices = estimator()
    small, large = (prices.requested_memory(deployment(tensor=2), BUSY.model_copy(update={"prompt_tokens": n})) for n in (2000, 20_000))
    assert large.value > small.value + 10
    width = [value.high - value.low for value in (small, large)]
    assert width[1] == pytest.approx(width[0], rel=0.05), "a longer cache is known exactly"
    assert width[0] < 0.3 * small.value


def test_requests_that_fit_are_as_certain_as_memory() -> None:
    metrics = estimator().metrics(deployment(tensor=2), BUSY)
    fitting = metrics.max_concurrency
    assert fitting is not None
    assert 0 < fitting.low < fitting.value < fitting.high
    assert fitting.high - fitting.low < 0.5 * fitting.value


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-0.5B", "RWKV/rwkv-4-7b-pile"])
def test_memory_is_never_less_than_the_weights_and_requests_come_whole(model: str) -> None:
    prices, planned = estimator("t4"), deployment(model)
    metrics = prices.metrics(planned, Workload(prompt_tokens=128, output_tokens=64, concurrency=1))
    memory, weights, most = metrics.peak_memory_gib, metrics.weights_gib, metrics.max_concurrency
    assert memory is not None
    assert weights is not None
    assert most is not None
    assert weights.value <= memory.low <= memory.value <= memory.high
    assert all(end.is_integer() for end in (most.low, most.value, most.high))
