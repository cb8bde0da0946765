"""The binding limit, and what the next unit of a limit buys."""

import pytest

from advisor.planning.advise import choose
from advisor.planning.planner import Planner
from advisor.planning.target import planner_for, resolve_target
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Limits, Request, Workload
from advisor.sensitivity.marginal_gain import STEPS, first_improving_step, marginal_gain, movable
from advisor.sensitivity.slack import by_limit, limit_slacks

MEMORY = "memory_gib_per_device"


@pytest.fixture(scope="module")
def planner() -> Planner:
    engine = load_engine("advisor")
    return planner_for(find_model("meta-llama/Meta-Llama-3.1-8B", offline=True), resolve_target("rtx-4090", "none", engine), engine)


def asking(concurrency: int = 4, **limits: float) -> Request:
    return Request(workload=Workload(prompt_tokens=1024, output_tokens=256, concurrency=concurrency), limits=Limits(**limits))


def test_the_binding_limit_is_the_least_likely_to_be_met(planner: Planner) -> None:
    request = asking(ttft_ms_p95=500.0, tpot_ms_p95=30.0)
    chosen = choose(planner, request)
    slacks = limit_slacks(chosen, request, planner.budget_gib(request))
    assert slacks[0].limit == "ttft_ms_p95"
    assert {item.limit: item.probability for item in slacks} == dict(chosen.probabilities)
    assert chosen.metrics.ttft_ms_p95 is not None
    assert slacks[0].slack == pytest.approx(500 - chosen.metrics.ttft_ms_p95.value)
    assert slacks[0].utilisation == pytest.approx(chosen.metrics.ttft_ms_p95.value / 500)


def test_memory_is_limited_by_the_device_unless_the_request_limits_it(planner: Planner) -> None:
    for request, of_the_device in ((asking(), True), (asking(memory_gib_per_device=16.0), False)):
        slacks = by_limit(limit_slacks(choose(planner, request), request, planner.budget_gib(request)))
        assert slacks[MEMORY].is_device_memory is of_the_device
    assert slacks[MEMORY].bound == 16.0


def test_slack_of_a_least_throughput_is_the_throughput_above_it(planner: Planner) -> None:
    request = asking(throughput_tok_s=100.0)
    slacks = by_limit(limit_slacks(choose(planner, request), request, planner.budget_gib(request)))["throughput_tok_s"]
    assert slacks.slack == pytest.approx(slacks.predicted.value - 100)
    assert 0 < slacks.utilisation < 1


def test_a_millisecond_far_from_the_limit_buys_nothing(planner: Planner) -> None:
    request = asking(tpot_ms_p95=1000.0)
    gain = marginal_gain(planner, choose(planner, request), request, "tpot_ms_p95")
    assert gain.changes_nothing
    assert (gain.bound, gain.loosened_to, gain.step) == (1000.0, 1001.0, STEPS["tpot_ms_p95"])


def test_a_gain_is_what_planning_again_with_the_moved_limit_gives(planner: Planner) -> None:
    request = asking(memory_gib_per_device=7.0, ttft_ms_p95=4000.0)
    chosen = choose(planner, request)
    gain = first_improving_step(planner, chosen, request, MEMORY)
    assert gain is not None
    assert not gain.changes_nothing
    again = choose(planner, request.model_copy(update={"limits": Limits(memory_gib_per_device=gain.loosened_to, ttft_ms_p95=4000.0)}))
    assert again.id == gain.chosen.id
    for change in gain.changes:
        assert change.before == getattr(chosen.metrics, change.metric)
        assert change.after == getattr(again.metrics, change.metric)


def test_memory_beyond_the_device_is_a_device_with_more() -> None:
    engine = load_engine("advisor")
    model = find_model("meta-llama/Meta-Llama-3.1-8B", offline=True)
    small = planner_for(model, resolve_target("rtx-4090", "none", engine), engine)
    request = Request(workload=Workload(prompt_tokens=8192, output_tokens=512, concurrency=64))
    chosen = choose(small, request)
    gain = marginal_gain(small, chosen, request, MEMORY)
    assert gain.loosened_to == pytest.approx(small.budget_gib(request) + 1)
    assert gain.request == request
    before, after = chosen.metrics.max_concurrency, gain.chosen.metrics.max_concurrency
    assert before is not None
    assert after is not None
    assert gain.changes_plan or after.value > before.value
    assert small.estimator.memory.budget_bytes < load_hardware("rtx-4090").memory_bytes, "the planner itself is left as it was"


def test_only_limits_of_the_request_and_memory_may_be_moved(planner: Planner) -> None:
    request = asking(tpot_ms_p95=30.0)
    assert set(movable(request)) == {"tpot_ms_p95", MEMORY}
    with pytest.raises(ValueError, match="ttft_ms_p95"):
        marginal_gain(planner, choose(planner, request), request, "ttft_ms_p95")
