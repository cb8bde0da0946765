"""Checks come before times, nothing is measured twice, and the budget is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.harness.record import Record
from benchmarks.harness.store import Store

if TYPE_CHECKING:
    import torch

Make = Callable[..., Any]


def unwritten(x: torch.Tensor) -> torch.Tensor:
    """Doubles all but the last element, which stays as it was allocated."""
    import torch

    out = torch.empty_like(x)
    out[:-1] = 2 * x[:-1]
    return out


def test_an_element_that_is_never_written_turns_a_check_red(kernel: Make) -> None:
    import torch

    from benchmarks.harness.checks import error_on

    good, bad = (error_on(kernel(*launch), (8,), torch.device("cpu")) for launch in ((), (unwritten,)))
    assert good == 0
    assert bad != bad, "the poison of the output must show"


def test_no_time_is_taken_of_a_kernel_whose_check_is_red(kernel: Make, case: Make, run: Make, store: Store) -> None:
    from benchmarks.harness.checks import check_cases

    ran: list[str] = []
    kernels = (kernel(name="good"), kernel(lambda x: 2.1 * x, name="bad"))
    cases = [*check_cases(kernels, seconds=0), case("a", ran, needs=("bad",)), case("b", ran, needs=("good",)), case("c", ran)]
    outcome, said = run(store, cases)
    assert ran == ["b", "c"]
    assert outcome.red == ["bad", "a"]
    assert any("error 5.00e-02 above 1e-06" in line for line in said), said
    record = store.record("kernels", "a")
    assert record is not None
    assert (record.status, record.timings) == ("red", ())


def test_a_red_check_takes_the_place_of_figures_from_before(kernel: Make, case: Make, run: Make, store: Store) -> None:
    from benchmarks.harness.checks import check_cases

    ran: list[str] = []
    run(store, [*check_cases((kernel(),), seconds=0), case("a", ran, needs=("double",))])
    changed = Store(store.folder, store.environment.model_copy(update={"id": "changed"}))
    run(changed, [*check_cases((kernel(lambda x: x),), seconds=0), case("a", ran, needs=("double",))])
    (record,) = changed.read("kernels").records
    assert (record.status, record.values, ran) == ("red", {}, ["a"])


def test_a_second_run_keeps_what_is_done_and_an_environment_that_changed_does_not(case: Make, run: Make, store: Store) -> None:
    ran: list[str] = []
    cases = [case("a", ran), case("b", ran)]
    run(store, cases[:1])
    outcome, _ = run(store, cases)
    assert (ran, outcome.reused, outcome.done) == (["a", "b"], ["a"], ["b"])
    elsewhere = Store(store.folder, store.environment.model_copy(update={"id": "elsewhere"}))
    outcome, _ = run(elsewhere, cases[:1])
    assert (ran, outcome.done) == (["a", "b", "a"], ["a"])
    results = elsewhere.read("kernels")
    assert {record.case: record.environment for record in results.records} == {"a": "elsewhere", "b": store.environment.id}
    assert {environment.id for environment in results.environments} == {"elsewhere", store.environment.id}


def test_a_failed_case_is_reported_and_the_rest_runs(case: Make, run: Make, store: Store) -> None:
    ran: list[str] = []
    cases = [case("a", ran, error=ValueError("odd width 3")), case("b", ran)]
    outcome, said = run(store, cases)
    assert (outcome.failed, outcome.done) == (["a"], ["b"])
    record = store.record("kernels", "a")
    assert record is not None
    assert record.notes == ("ValueError: odd width 3",)
    assert "odd width 3" in said[0]
    run(store, cases)
    assert ran == ["a", "b"], "what failed is not tried again unasked"
    run(store, cases, retry=True)
    assert ran == ["a", "b", "a"]


def test_a_case_that_the_process_died_in_is_not_begun_again(case: Make, run: Make, store: Store) -> None:
    ran: list[str] = []
    store.put("kernels", Record(case="a", status="started", environment=store.environment.id))
    outcome, _ = run(store, [case("a", ran), case("b", ran)])
    assert (ran, outcome.failed) == (["b"], ["a"])


def test_what_does_not_fit_in_the_time_is_left_for_the_next_run(case: Make, run: Make, store: Store) -> None:
    ran: list[str] = []
    cases = [case("a", ran), case("long", ran, seconds=1000), case("c", ran)]
    outcome, said = run(store, cases, seconds=100)
    assert (ran, outcome.left) == (["a", "c"], ["long"])
    assert "left of 1:40" in said[0]
    outcome, _ = run(store, cases, seconds=2000)
    assert (outcome.done, outcome.reused, outcome.left) == (["long"], ["a", "c"], [])


def test_a_case_waits_for_what_it_builds_on(case: Make, run: Make, store: Store) -> None:
    ran: list[str] = []
    needs = case("late", ran, after=(("ceilings", "read"),))
    assert run(store, [needs])[0].left == ["late"]
    outcome, _ = run(store, [case("read", ran, part="ceilings"), needs])
    assert outcome.done == ["read", "late"]


@pytest.mark.parametrize("broken", ["{}", '{"part": "kernels"}', "no json"])
def test_a_broken_file_of_results_is_said_to_be(broken: str, store: Store) -> None:
    store.path("kernels").write_text(broken)
    with pytest.raises(Exception, match="holds no results"):
        store.read("kernels")
