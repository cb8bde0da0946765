"""How the interface begins: empty, or with the last session, which one line says and one key clears; and how keys become text."""

import asyncio
from dataclasses import replace

import pytest
from textual._xterm_parser import XTermParser
from textual.events import Key
from textual.widgets import Input, Static

from advisor.tui.escaped_keys import as_pressed
from advisor.tui.form.choices import machines
from advisor.tui.form.history import History
from advisor.tui.form.problem import Problem
from advisor.tui.form.saved_state import SavedState
from advisor.tui.form.values import FormValues
from advisor.tui.panels.limits import LimitsPanel
from advisor.tui.screens.plan import PlanScreen
from advisor.tui.settings import AppSettings
from advisor.tui.status_text import restored_line, without_plan
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, an_app, driven, frame, message_of, settled, shared_app


def test_the_last_session_is_named_in_one_line_with_the_key_that_clears_it() -> None:
    values = QUESTION.with_text("model", "other/model").with_text("prefer", "latency")
    restored = values.in_common(QUESTION)
    assert restored == ("Machine canned-24g", "TTFT max 0.5s", "TPOT max 20", "Memory max 20")
    assert restored_line(restored, 120).startswith("From the last session: Machine canned-24g, TTFT max 0.5s, TPOT max 20")
    for width in (58, 78, 118):
        line = restored_line(restored, width)
        assert len(line) <= width
        assert line.endswith("^n clears all.")
    assert restored_line((), 80) == ""


def test_clearing_forgets_marks_filter_and_order_and_can_be_undone() -> None:
    state = SavedState(History(QUESTION), selected="plan-1", marked=("plan-1",), filter="all", sort="TPOT")
    cleared = state.cleared()
    assert cleared.values.is_empty
    assert replace(cleared, history=History()) == SavedState()
    assert cleared.history.undone().present == QUESTION


def test_a_new_start_says_that_it_took_over_the_last_session_and_clears_it_by_a_key() -> None:
    async def drive() -> None:
        app = an_app(QUESTION, AppSettings(), CannedClient())
        async with driven(app, (80, 24)) as pilot:
            line = app.screen.query_one("#restored", Static)
            assert "From the last session: Machine canned-24g" in frame(app)
            await pilot.press("ctrl+n")
            await settled(pilot)
            assert app.store.state.values.is_empty
            assert not line.region.area
            await pilot.press(*"3.1-8b-inst", "enter")
            await settled(pilot)
            assert app.store.state.values == FormValues({"model": "meta-llama/Llama-3.1-8B-Instruct"})

    asyncio.run(drive())


def test_digits_behind_the_keys_of_views_are_keys_until_a_field_is_entered() -> None:
    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", *"2131", "9")
            await settled(pilot)
            assert isinstance(app.focused, LimitsPanel)
            assert app.store.state.values == QUESTION
            await pilot.press("enter", "8")
            await settled(pilot)
            assert app.store.state.values == QUESTION.with_text("devices", "8")

    SHARED_APP.run(drive())


def test_what_is_typed_behind_a_model_stands_in_the_machine_and_becomes_its_id() -> None:
    async def drive() -> None:
        async with shared_app(FormValues(), client=CannedClient()) as (app, pilot):
            assert isinstance(app.screen, PlanScreen)
            app.screen.open_field("model")
            await pilot.press(*"canned", "enter", *"4090", "enter", *"2")
            await settled(pilot)
            assert app.store.state.values == FormValues({"model": "canned", "hardware": "rtx-4090", "devices": "2"})
            app.screen.open_field("hardware")
            app.screen.query_one("#field-hardware", Input).value = ""
            await pilot.press(*"H100", "enter")
            await settled(pilot)
            assert app.store.state.values.text("hardware") == "h100-sxm"
            assert message_of(app).startswith("H100 is taken for h100-sxm; it may also be h100-nvl or h100-pcie.")

    SHARED_APP.run(drive())


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("4090", "rtx-4090"),
        ("geforce rtx 4090", "rtx-4090"),
        ("H100", "h100-sxm"),
        ("3090 Ti", "rtx-3090-ti"),
        ("M3 Max", "apple-m3-max-40"),
        ("A100 80GB PCIe", "a100-pcie-80g"),
        ("", ""),
    ],
)
def test_the_list_of_machines_marks_the_one_that_a_name_means(text: str, first: str) -> None:
    assert machines("Some CPU").matching(text)[0].value == first


@pytest.mark.parametrize(("sequence", "keys"), [("\x1b2", ["escape", "2"]), ("\x1b0", ["escape", "0"]), ("\x1b[C", ["right"])])
def test_esc_and_a_digit_that_arrive_together_are_two_keys(sequence: str, keys: list[str]) -> None:
    events = [event for event in XTermParser().feed(sequence) if isinstance(event, Key)]
    assert [key.key for event in events for key in as_pressed(event)] == keys
    assert [key.key for key in as_pressed(Key("alt+e", "e"))] == ["escape", "e"]


def test_blank_panels_say_what_to_type_what_is_done_and_what_is_wrong() -> None:
    problem = Problem("No model `foo/bar`", "model", ("Enter in the field looks for it on the network",))
    for blank, says in (
        (without_plan("", None, waiting=False), "press 0 for a list"),
        (without_plan("foo/bar", None, waiting=True), "Planning foo/bar"),
        (without_plan("foo/bar", problem, waiting=False), "Enter in the field looks for it"),
    ):
        assert says in " ".join(blank.plans)
        assert blank.why[0]
        assert blank.plot
