"""The width of a search: how many stacks there are, how few prices they need, and that sharing prices changes none."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from advisor.estimate.cancellation import cancellable
from advisor.estimate.estimator import Estimator
from advisor.planning.advise import advise, price_all
from advisor.planning.planner import Planner
from advisor.planning.pricing import PricedStacks
from advisor.planning.question import PlanQuestion, request_for
from advisor.planning.search import search
from advisor.planning.target import planner_for, resolve_target
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Limits, Load, Request, Workload

WIDE = PlanQuestion(
    model="meta-llama/Meta-Llama-3.1-8B", hardware="h100-sxm", devices=8, concurrency=16, prompt_tokens=3500, output_tokens=256,
    profile="none", limits=Limits(tpot_ms_p95=10), offline=True,
)  # fmt: skip


def planner_of(question: PlanQuestion) -> tuple[Planner, Request]:
    model, engine = find_model(question.model), load_engine(question.engine)
    return planner_for(model, resolve_target(question.hardware, question.profile, engine), engine), request_for(question, model)


@pytest.fixture(scope="module")
def searched() -> tuple[Planner, Request, PricedStacks]:
    planner, request = planner_of(WIDE)
    return planner, request, price_all(planner, request)


@contextmanager
def counted_checkpoints() -> Iterator[list[None]]:
    """An entry for each checkpoint: one before a family of stacks is priced, one in every step of a simulation that is run."""
    passed: list[None] = []
    with cancellable(lambda: passed.append(None)):
        yield passed


def test_a_machine_of_eight_devices_has_twenty_thousand_distinct_stacks(searched: tuple[Planner, Request, PricedStacks]) -> None:
    _, _, priced = searched
    assert len(priced.stacks) >= 20_000
    assert len({stack.deployment for stack in priced.stacks}) == len(priced.stacks)


def test_stacks_of_equal_price_share_it(searched: tuple[Planner, Request, PricedStacks]) -> None:
    _, _, priced = searched
    assert priced.closed_forms <= len(priced.stacks) / 2


def test_sharing_changes_no_number(searched: tuple[Planner, Request, PricedStacks]) -> None:
    planner, request, priced = searched
    alone = Estimator(planner.estimator.machine, planner.estimator.engine)
    for index in random.Random(3).sample(range(len(priced.stacks)), 60):
        deployment, metrics = priced.stacks[index].deployment, priced.metrics(index)
        steady, memory = alone.steady_state(deployment, request.workload), alone.requested_memory(deployment, request.workload)
        assert metrics.ttft_ms_p95 is not None
        assert metrics.tpot_ms_p95 is not None
        assert metrics.throughput_tok_s is not None
        assert metrics.peak_memory_gib is not None
        assert metrics.ttft_ms_p95.value == pytest.approx(steady.ttft_ms_p95, rel=1e-6)
        assert metrics.tpot_ms_p95.value == pytest.approx(steady.tpot_ms_p95, rel=1e-6)
        assert metrics.throughput_tok_s.value == pytest.approx(steady.throughput_tok_s, rel=1e-6)
        for end in ("low", "value", "high"):
            assert getattr(metrics.peak_memory_gib, end) == pytest.approx(getattr(memory, end), rel=1e-6)
        below, above = alone.ranges(deployment).factors("tpot")
        assert metrics.tpot_ms_p95.low == pytest.approx(below * metrics.tpot_ms_p95.value)
        assert metrics.tpot_ms_p95.high == pytest.approx(above * metrics.tpot_ms_p95.value)


@pytest.mark.parametrize("load", [{"load": Load.OPEN, "request_rate_per_s": 8.0}, {"load": Load.OFFLINE}])
def test_sharing_changes_no_number_of_another_load(load: dict[str, Any]) -> None:
    planner, _ = planner_of(WIDE)
    workload = Workload(prompt_tokens=1500, output_tokens=200, **load)
    priced = price_all(planner, Request(workload=workload, devices=1))
    alone = Estimator(planner.estimator.machine, planner.estimator.engine)
    times = ("ttft_ms_p95", "tpot_ms_mean", "tpot_ms_p95", "throughput_tok_s")
    for index in random.Random(5).sample(range(len(priced.stacks)), 40):
        steady = alone.steady_state(priced.stacks[index].deployment, workload)
        expected = [steady.ttft_ms_p95, steady.tpot_ms, steady.tpot_ms_p95, steady.throughput_tok_s]
        assert [priced.columns.metrics[name].value[index] for name in times] == pytest.approx(expected, rel=1e-6)


def test_stacks_of_equal_batching_decoding_and_parallelism_are_priced_together() -> None:
    planner, request = planner_of(WIDE)
    with counted_checkpoints() as families:
        priced = price_all(planner, request)
    assert 0 < len(families) < priced.closed_forms / 20


def test_changed_limits_and_preferences_price_nothing_again(searched: tuple[Planner, Request, PricedStacks]) -> None:
    planner, request, priced = searched
    tighter = request.model_copy(update={"limits": request.limits.model_copy(update={"tpot_ms_p95": 7.0, "ttft_ms_p95": 900.0})})
    with counted_checkpoints() as families:
        assert price_all(planner, tighter) is priced
    assert not families
    advice = advise(planner, tighter)
    assert planner.cached_prices(tighter) is priced
    assert advice.considered == len(priced.stacks)
    assert advice.chosen.probability > 0.5


def test_the_same_limit_simulates_nothing_again() -> None:
    planner, request = planner_of(PlanQuestion(model=WIDE.model, hardware="h100-sxm", concurrency=16, profile="none", offline=True))
    price_all(planner, request)
    with counted_checkpoints() as steps:
        first = advise(planner, request)
    with counted_checkpoints() as again:
        assert advise(planner, request) == first
    assert len(again) < len(steps) / 10, "one for each look into the cache"


def test_a_lossy_plan_needs_more_than_speed_to_come_first() -> None:
    planner, request = planner_of(
        PlanQuestion(model=WIDE.model, hardware="h100-sxm", concurrency=16, profile="none", limits=Limits(tpot_ms_p95=10), offline=True)
    )
    free = advise(planner, request).chosen
    assert free.metrics.quality_loss_pct is not None
    assert free.metrics.quality_loss_pct.value < 5
    agreed = request.model_copy(update={"limits": request.limits.model_copy(update={"quality_loss_pct": 30.0})})
    loss = advise(planner, agreed).chosen.metrics.quality_loss_pct
    assert loss is not None
    assert loss.value >= free.metrics.quality_loss_pct.value


def test_available_memory_counts_as_a_limit(searched: tuple[Planner, Request, PricedStacks]) -> None:
    planner, request, _ = searched
    chances = dict(advise(planner, request).chosen.probabilities)
    assert set(chances) == {"tpot_ms_p95", "memory_gib_per_device"}
    assert planner.estimator.memory.budget_bytes / GIB > 1


def test_a_covered_technique_is_tried_only_where_the_other_is_not() -> None:
    request, model = request_for(WIDE, find_model(WIDE.model)), find_model(WIDE.model)

    def names(requested: Request, engine: str = "advisor") -> set[str]:
        return {name for stack in search(model, requested, engine) for name in stack.names}

    assert "attention-flash" in names(request)
    assert "attention-sdpa" not in names(request)
    assert "attention-sdpa" in names(request.model_copy(update={"forbid": ("attention-flash",)}))
    assert "attention-sdpa" in names(request.model_copy(update={"require": ("attention-sdpa",)}))
    assert "attention-sdpa" in names(request, "vllm"), "which chooses its kernels by its own rules"


def test_windows_of_attention_have_their_own_memory() -> None:
    question = PlanQuestion(
        model="meta-llama/Meta-Llama-3.1-8B", hardware="h100-sxm", concurrency=8, prompt_tokens=12000, output_tokens=256,
        profile="none", limits=Limits(), require=("attention-sliding-window",),
    )  # fmt: skip
    planner, request = planner_of(question)
    priced = price_all(planner, request)
    for index in random.Random(5).sample(range(len(priced.stacks)), 60):
        memory = planner.estimator.requested_memory(priced.stacks[index].deployment, request.workload)
        predicted = priced.metrics(index).peak_memory_gib
        assert predicted is not None
        assert predicted.value == pytest.approx(memory.value, rel=1e-6)
