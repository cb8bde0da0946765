"""The Why panel: reasons are worked out while they are read, and a change that is taken is the change that was shown."""

import threading
from dataclasses import replace

import pytest
from textual.widgets import OptionList

from advisor.sensitivity.counterfactual import Change, ChangeKind
from advisor.sensitivity.findings import Finding
from advisor.sensitivity.marginal_gain import Gain
from advisor.tui.form.suggestions import with_change, with_gain
from advisor.tui.form.values import FormValues
from advisor.tui.panels.why import WhyPanel
from advisor.tui.screens.technique import TechniqueScreen
from advisor.tui.workers.priority_lock import PriorityLock
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import LLAMA, SHARED_APP, frame, message_of, settled, shared_app, shared_client

LIMITED = FormValues({"model": LLAMA, "hardware": "rtx-4090", "ttft_ms": "500", "tpot_ms": "30", "memory_gib": "20"})
LOADED = FormValues(
    {"model": LLAMA, "hardware": "rtx-4090", "concurrency": "8", "output_tokens": "512", "context": "8k"}, ("kv-paged",), ("kv-int8",)
)


@pytest.mark.parametrize("values", [LIMITED, pytest.param(LOADED, marks=pytest.mark.slow)], ids=["limits", "load and forced techniques"])
def test_a_change_asks_the_question_that_it_was_computed_for(values: FormValues) -> None:
    client = shared_client()
    planned = client.answer(values)
    assert planned is not None
    kinds = set()
    wanted = [reason.technique for reason in planned.advice.reasons if reason.technique not in planned.advice.chosen.names]
    for finding in client.findings(planned, planned.advice, wanted):
        if not isinstance(finding.result, Change) or finding.result.kind in (ChangeKind.MACHINE, ChangeKind.TECHNIQUE):
            continue
        kinds.add(finding.result.kind)
        again = client.answer(with_change(values, finding.topic, finding.result))
        assert again is not None
        request = finding.result.request
        assert again.advice.request == request.model_copy(update={"require": tuple(sorted(request.require))}), finding.topic
    assert kinds >= {ChangeKind.REQUIRE, ChangeKind.LOAD}


def test_another_machine_or_a_partner_is_asked_for_by_name() -> None:
    client = shared_client()
    planned = client.answer(LIMITED)
    assert planned is not None
    change = next(
        finding.result
        for finding in client.findings(planned, planned.advice, ["kv-int8"])
        if isinstance(finding.result, Change) and finding.result.kind is ChangeKind.MACHINE
    )
    assert with_change(LIMITED, "kv-int8", change).text("hardware") == change.after != "rtx-4090"


def test_more_of_a_limit_is_the_limit_moved_and_more_than_the_device_has_is_none() -> None:
    client = shared_client()
    planned = client.answer(LIMITED)
    assert planned is not None
    (gain, *_) = (f.result for f in client.findings(planned, planned.advice, ["tpot_ms_p95"]) if isinstance(f.result, Gain))
    moved = with_gain(LIMITED, gain)
    assert moved is not None
    assert moved.text("tpot_ms") == "31"
    free = LIMITED.with_text("memory_gib", "")
    planned = client.answer(free)
    assert planned is not None
    (gain, *_) = (f.result for f in client.findings(planned, planned.advice, ["memory_gib_per_device"]) if isinstance(f.result, Gain))
    assert with_gain(free, gain) is None


def test_findings_are_shown_as_they_come_while_the_panel_is_read() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "3")
            await settled(pilot)
            why = app.screen.query_one(WhyPanel)
            text = "\n".join(why.texts().values())
            assert "kv-int8" in why.texts()
            assert "Admitted by: A limit of at most 1.31 %" in text
            assert "working out" not in text

    SHARED_APP.run(drive())


@pytest.mark.slow
def test_what_would_admit_a_technique_is_computed_while_the_panel_is_read() -> None:
    async def drive() -> None:
        async with shared_app(LIMITED, size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "3")
            await settled(pilot)
            why = app.screen.query_one(WhyPanel)
            seen = set()
            for _ in range(20):
                seen.add(why.cursor)
                await pilot.press("down")
            text = "\n".join(line for part in why._parts for line in part.lines)
            assert {"ttft_ms_p95", "weights-int4", "kv-int4"} <= seen
            assert "Binding limit" in text
            assert "Admitted by: A limit of at most" in text
            assert "working out" not in text

    SHARED_APP.run(drive())


def test_enter_offers_the_changes_and_taking_one_is_one_step_of_undo() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "3")
            await settled(pilot)
            app.screen.query_one(WhyPanel).topic = "kv-int8"
            await pilot.press("enter")
            await settled(pilot)
            assert isinstance(app.screen, TechniqueScreen)
            lines = app.screen.query_one(OptionList)
            last = lines.option_count - 1
            assert "quality loss" in str(lines.get_option_at_index(last).prompt)
            await pilot.press(*["down"] * last, "enter")
            await settled(pilot)
            assert app.store.state.values == QUESTION.with_text("quality_loss", "1.31")
            await pilot.press("u")
            await settled(pilot)
            assert app.store.state.values == QUESTION

    SHARED_APP.run(drive())


@pytest.mark.slow
def test_a_change_that_is_taken_puts_the_technique_into_the_plan() -> None:
    async def drive() -> None:
        async with shared_app(LIMITED) as (app, pilot):
            await pilot.press("escape", "3")
            await settled(pilot)
            app.screen.query_one(WhyPanel).topic = "kv-int4"
            await pilot.press("enter")
            await settled(pilot)
            assert isinstance(app.screen, TechniqueScreen)
            lines = app.screen.query_one(OptionList)
            prompts = [str(lines.get_option_at_index(index).prompt) for index in range(lines.option_count)]
            index = next(index for index, prompt in enumerate(prompts) if "on TPOT p95" in prompt)
            await pilot.press(*["down"] * index, "enter")
            await settled(pilot)
            assert app.planning.planned is not None
            assert "kv-int4" in app.planning.planned.advice.chosen.names
            assert app.store.state.values.text("tpot_ms") != "30"
            await pilot.press("u")
            await settled(pilot)
            assert app.store.state.values == LIMITED

    SHARED_APP.run(drive())


@pytest.mark.parametrize(("changes_something", "typed"), [(True, "1.1"), (False, "20")])
def test_enter_on_a_limit_moves_it_by_its_step_where_that_changes_something(changes_something: bool, typed: str) -> None:
    class OneGain(CannedClient):
        def findings(self, *args):  # type: ignore[no-untyped-def]
            for finding in super().findings(*args):
                if isinstance(finding.result, Gain):
                    gain = replace(finding.result, limit="tpot_ms_p95")
                    finding = Finding("tpot_ms_p95", gain if changes_something else replace(gain, changes=(), changes_plan=False))
                yield finding

    async def drive() -> None:
        async with shared_app(QUESTION, OneGain()) as (app, pilot):
            await pilot.press("escape", "3")
            await settled(pilot)
            app.screen.query_one(WhyPanel).topic = "tpot_ms_p95"
            await pilot.press("enter")
            await settled(pilot)
            assert app.store.state.values.text("tpot_ms") == typed
            assert message_of(app).startswith("More of this limit changes nothing.") is not changes_something

    SHARED_APP.run(drive())


def test_w_forces_the_technique_under_the_cursor_out_and_in() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "3")
            await settled(pilot)
            app.screen.query_one(WhyPanel).topic = "weights-int4"
            await pilot.press("w")
            await settled(pilot)
            assert app.store.state.values.forbid == ("weights-int4",)
            assert message_of(app).startswith("weights-int4 is forbidden (u undoes this).")
            await pilot.press("w")
            await settled(pilot)
            assert app.store.state.values == QUESTION
            app.screen.query_one(WhyPanel).topic = "kv-int8"
            await pilot.press("w")
            await settled(pilot)
            assert app.store.state.values.require == ("kv-int8",)

    SHARED_APP.run(drive())


def test_leaving_the_panel_stops_the_work() -> None:
    bits: list[str] = []
    more = threading.Event()

    class SlowClient(CannedClient):
        def findings(self, *args):  # type: ignore[no-untyped-def]
            for finding in super().findings(*args):
                bits.append(finding.topic)
                assert more.wait(60)
                yield finding

    async def drive() -> None:
        async with shared_app(QUESTION, client=SlowClient(), size=(80, 24)) as (app, pilot):
            await pilot.press("escape", "3")
            await pilot.pause()
            assert "working out" in frame(app) or bits
            await pilot.press("2")
            await pilot.pause()
            more.set()
            await settled(pilot)
            assert len(bits) == 1

    SHARED_APP.run(drive())


def test_an_urgent_holder_goes_before_background_work() -> None:
    lock, order = PriorityLock(), []
    inside, waiting = threading.Event(), threading.Event()

    def idle() -> None:
        for _ in range(2):
            with lock.background():
                order.append("idle")
                inside.set()
                assert waiting.wait(60)

    def urgent() -> None:
        assert inside.wait(60)
        with lock.urgent():
            order.append("urgent")

    threads = [threading.Thread(target=work) for work in (idle, urgent)]
    for thread in threads:
        thread.start()
    assert inside.wait(60)
    while not lock._urgent_waiting:
        pass
    waiting.set()
    for thread in threads:
        thread.join(60)
    assert order == ["idle", "urgent", "idle"]
