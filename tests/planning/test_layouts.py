"""The spread of a model over devices: words, reason, idle devices and several machines."""

import dataclasses

import pytest

from advisor.backends.deployment import Parallel
from advisor.planfile.from_advice import plan_of
from advisor.planning.advice import Status, TechniqueState
from advisor.planning.layouts import layout_warnings
from advisor.planning.question import EstimateQuestion, PlanQuestion
from advisor.profiles.hardware import load_hardware
from advisor.profiles.request import Limits, Workload
from advisor.rendering.text.advice import binding_words, facts, relaxation_words, verdict
from advisor.service import estimate, plan

ONE = Workload(prompt_tokens=1000, output_tokens=100, concurrency=1)
DEEPSEEK = PlanQuestion(
    model="deepseek-ai/DeepSeek-V3",
    hardware="h200-sxm",
    devices=8,
    concurrency=64,
    prompt_tokens=4096,
    output_tokens=1024,
    context_tokens=16384,
    profile="none",
    offline=True,
)


def test_the_layout_stands_in_the_facts_with_a_reason_that_names_the_others() -> None:
    advice = plan(DEEPSEEK)
    assert advice.chosen.deployment.parallel == Parallel(tensor=8)
    assert facts(advice)["layout"] == "tensor parallel 8"
    assert "tensor parallel 4 × data parallel 2: memory 168 GiB" in advice.layout_reason


def test_the_cache_is_sized_for_the_load_and_says_when_requests_are_preempted() -> None:
    advice = plan(DEEPSEEK)
    assert advice.chosen.status is Status.MEETS
    assert advice.cache is not None
    assert (advice.cache.sequences, advice.cache.tokens, advice.cache.longest_at_once) == (64, 5120, 20)
    assert "64 requests of 5120 tokens, or 20 of 16384" in facts(advice)["kv cache"]
    assert "preempted" in facts(advice)["kv cache"]
    reserved = plan(dataclasses.replace(DEEPSEEK, kv_pool="longest"))
    assert reserved.chosen.status is Status.INFEASIBLE
    assert reserved.cache is None


def test_the_pool_holds_one_request_of_the_longest_length() -> None:
    workload = Workload(prompt_tokens=100, output_tokens=20, concurrency=2, context_limit_tokens=1000, oversubscribe=True)
    assert workload.reserved_tokens(2) == 500
    assert workload.reserved_tokens(100) == 120


def test_devices_without_a_request_are_said_to_be_idle() -> None:
    warnings = list(layout_warnings(Parallel(tensor=2, data=4), load_hardware("h100-sxm"), ONE))
    assert warnings == ["6 of 8 devices are idle: 1 in flight, 4 replicas"]
    (one_idle,) = layout_warnings(Parallel(data=2), load_hardware("h100-sxm"), ONE)
    assert one_idle.startswith("1 of 2 devices is idle")
    assert not list(layout_warnings(Parallel(tensor=8), load_hardware("h100-sxm"), ONE))


def test_more_devices_than_a_machine_holds_are_counted_in_machines() -> None:
    busy = ONE.model_copy(update={"concurrency": 1000})
    (warning,) = layout_warnings(Parallel(tensor=8, data=125), load_hardware("rtx-4090"), busy)
    assert warning == "1,000 devices are 125 machines of at most 8 RTX 4090"
    spanning = list(layout_warnings(Parallel(tensor=16), load_hardware("h100-sxm"), busy))
    assert "one replica spans 2 machines, whose network is not priced" in spanning[1]
    assert not list(layout_warnings(Parallel(tensor=64), load_hardware("gb200"), busy))


def test_an_estimate_for_several_devices_splits_the_model_over_them() -> None:
    question = EstimateQuestion(
        model="meta-llama/Meta-Llama-3-70B", hardware="h100-sxm", prompt_tokens=1000, output_tokens=100, profile="none"
    )
    assert estimate(dataclasses.replace(question, devices=8)).layout == "tensor parallel 8"
    assert estimate(dataclasses.replace(question, devices=16)).layout == "tensor parallel 8 × data parallel 2"
    assert estimate(dataclasses.replace(question, devices=8, tp=2)).layout == "tensor parallel 2 × data parallel 4"


def test_memory_that_no_limit_is_on_is_said_to_be_the_devices() -> None:
    question = PlanQuestion(model="meta-llama/Llama-3.3-70B-Instruct", hardware="rtx-4090", profile="none", offline=True)
    unlimited = plan(question)
    assert verdict(unlimited).startswith("NO PLAN fits in memory")
    assert unlimited.binding is not None
    assert ", usable 22.1 GiB: " in binding_words(unlimited.binding, unlimited.request.limits)
    memory, devices = (relaxation_words(item, unlimited.request.limits) for item in unlimited.relaxations)
    assert memory.startswith("Usable memory of a device from 22.1 GiB to ")
    assert devices.startswith("Devices from 1 to 2")
    limited = plan(dataclasses.replace(question, limits=Limits(memory_gib_per_device=20.0)))
    assert verdict(limited).startswith("NO PLAN meets all limits")
    assert relaxation_words(limited.relaxations[0], limited.request.limits).startswith("Peak memory limit from 20 GiB to ")


@pytest.mark.parametrize(
    "question",
    [
        PlanQuestion(
            model="meta-llama/Meta-Llama-3.1-8B", hardware="rtx-4090", burst=10, limits=Limits(ttft_ms_p95=1000.0), profile="none"
        ),
        PlanQuestion(
            model="meta-llama/Meta-Llama-3.1-8B", hardware="rtx-4090", concurrency=16, limits=Limits(tpot_ms_p95=8.0), profile="none"
        ),
    ],
    ids=["burst", "closed"],
)
def test_no_limit_must_be_loosened_beyond_what_the_nearest_plan_needs(question: PlanQuestion) -> None:
    advice = plan(question)
    (missed,) = advice.chosen.violations
    loosened = next(change for change in advice.relaxations if change.limit == missed.limit)
    assert loosened.needed <= missed.predicted.value


def test_what_does_not_fit_either_is_admitted_by_no_limit_on_another_metric() -> None:
    advice = plan(PlanQuestion(model="meta-llama/Llama-3.3-70B-Instruct", hardware="rtx-4090", profile="none", offline=True))
    larger = next(reason for reason in advice.reasons if reason.technique == "weights-int8")
    assert (larger.state, larger.would_need) == (TechniqueState.REJECTED, ())


def test_a_memory_limit_above_the_device_is_judged_by_the_device() -> None:
    question = dataclasses.replace(DEEPSEEK, kv_pool="longest", limits=Limits(memory_gib_per_device=200.0))
    advice = plan(question)
    assert advice.limits.bound("memory_gib_per_device") == pytest.approx(advice.budget_gib)
    assert advice.budget_gib < 200.0
    assert "(the device has 129 GiB usable)" in facts(advice)["limits"]
    assert not plan(dataclasses.replace(question, kv_pool="load")).binding


def test_a_quality_loss_above_one_percent_stands_in_the_verdict() -> None:
    question = PlanQuestion(model="Qwen/Qwen3-30B-A3B", hardware="rtx-4090", profile="none", offline=True)
    advice = plan(question)
    assert advice.chosen.metrics.quality_loss_pct is not None
    assert advice.chosen.metrics.quality_loss_pct.value > 1.0
    assert verdict(advice).endswith("; quality loss 11.8 % [6.37, 12.0]")


def test_the_lengths_that_times_are_for_are_said_where_only_the_context_is_given() -> None:
    advice = plan(PlanQuestion(model="Qwen/Qwen3-8B", hardware="h100-sxm", context_tokens=32768, profile="none", offline=True))
    assert "times are for 1024 + 256 tokens, not for the longest" in facts(advice)["workload"]


def test_prompt_lookup_is_chosen_for_text_that_repeats_its_prompt_and_never_for_unknown_text() -> None:
    question = PlanQuestion(model="meta-llama/Meta-Llama-3.1-8B", hardware="h100-sxm", profile="none", offline=True)
    unknown, summaries = plan(question), plan(dataclasses.replace(question, use_case="summaries"))
    assert "decode-prompt-lookup" not in unknown.chosen.names
    assert "decode-prompt-lookup" in summaries.chosen.names
    (why,) = [reason.why for reason in unknown.reasons if reason.technique == "decode-prompt-lookup"]
    assert "set --use-case" in why
    chat = plan(dataclasses.replace(question, use_case="chat", require=("decode-prompt-lookup",)))
    required = plan(dataclasses.replace(question, require=("decode-prompt-lookup",)))
    rates = [advice.chosen.metrics.tpot_ms_mean for advice in (summaries, chat, required)]
    assert [rate.value for rate in rates if rate] == sorted(rate.value for rate in rates if rate)


def test_the_chance_of_the_only_limit_is_that_of_the_plan() -> None:
    advice = plan(PlanQuestion(model="meta-llama/Meta-Llama-3.1-8B", hardware="h200-sxm", devices=8, concurrency=64, profile="none"))
    verdict = plan_of(advice).verdict
    assert list(verdict.chances.values()) == [verdict.probability]
