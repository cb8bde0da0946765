"""How the terminal interface begins: only on a terminal, before the machine is known, and without torch."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, Static

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.sensitivity.findings import Finding
from advisor.tui.form.values import FormValues
from advisor.tui.keys import load_keymap
from advisor.tui.launch import check_terminal
from advisor.tui.settings import AppSettings
from advisor.tui.workers.planning_client import ThisMachine
from tests.paths import ROOT
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, an_app, driven, frame, settled, shared_app


class Terminal:
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_it_says_what_to_type_instead() -> None:
    done = subprocess.run([sys.executable, "-m", "advisor"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.startswith("error[not-a-terminal]: the terminal interface needs a terminal, and stdin is none")
    assert "help: advisor plan MODEL" in done.stderr


def test_a_closed_stream_and_a_dumb_terminal_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    check_terminal(Terminal(), Terminal())
    with pytest.raises(AdvisorError, match="stderr is none"):
        check_terminal(Terminal(), None)
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(AdvisorError, match="TERM is dumb"):
        check_terminal(Terminal(), Terminal())


def test_the_first_frame_comes_before_the_machine_is_known() -> None:
    detected = threading.Event()

    class SlowClient(CannedClient):
        def this_machine(self) -> ThisMachine:
            assert detected.wait(60)
            return super().this_machine()

    async def drive() -> None:
        app = an_app(FormValues(), AppSettings(), SlowClient())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "detecting this machine" in str(app.screen.query_one("#header", Static).content)
            await pilot.press("l")
            assert app.screen.query_one(Input).value == "l"
            detected.set()
            await settled(pilot)
            assert "Canned CPU" in str(app.screen.query_one("#header", Static).content)

    asyncio.run(drive())


def test_planning_loads_no_torch_and_the_first_frame_no_planner() -> None:
    code = """
import asyncio, sys
import advisor.tui.app
assert not {"advisor.planning.planner", "pydantic", "numpy"} & set(sys.modules), "the first frame waits for the planner"
from tests.tui.driving import SHARED_APP, shared_app, an_app, driven
async def drive():
    async with driven(an_app()) as pilot:
        assert pilot.app.planning.planned is not None
asyncio.run(drive())
heavy = {"torch", "transformers", "triton"} & set(sys.modules)
assert not heavy, heavy
"""
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_keymap_file_gives_an_action_another_key(tmp_path: Path) -> None:
    file = tmp_path / "keymap.yaml"
    file.write_text("plans.sort: t\n")

    async def drive() -> None:
        async with shared_app(QUESTION, CannedClient()) as (app, pilot):
            app.set_keymap(load_keymap(file))
            await pilot.press("escape", "t")
            assert app.store.state.sort == "memory"
            await pilot.press("s")
            assert app.store.state.sort == "memory"

    SHARED_APP.run(drive())


@pytest.mark.parametrize("panels", ["13", pytest.param("24", marks=pytest.mark.slow)])
def test_every_key_that_the_help_names_can_be_another(tmp_path: Path, panels: str) -> None:
    file = tmp_path / "keymap.yaml"

    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            for panel in panels:
                await pilot.press("escape", panel, *(("enter",) if panel == "1" else ()))
                await settled(pilot)
                await pilot.press("?")
                await settled(pilot)
                named = [line.split()[-1] for line in str(app.screen.query_one(Static).render()).split("\n\n")[0].splitlines()]
                assert {"view.plans", "quit", "leave" if panel == "1" else "plan.mark"} <= set(named)
                assert ("why.take" in named) == (panel == "3")
                file.write_text("".join(f"{id}: f12\n" for id in named))
                assert list(load_keymap(file)) == named
                await pilot.press("escape")
                await settled(pilot)

    SHARED_APP.run(drive())


def test_an_unknown_key_id_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "keymap.yaml"
    file.write_text("plans.shuffle: t\n")
    with pytest.raises(AdvisorError) as raised:
        load_keymap(file)
    assert raised.value.code == "bad-keymap"
    assert "plans.sort" in raised.value.help[0]


def test_a_fault_in_a_thread_is_shown_and_the_app_continues() -> None:
    class FaultyClient(CannedClient):
        def answer(self, values: FormValues, abandoned: object = None) -> None:
            raise RuntimeError("boom")

    async def drive() -> None:
        async with shared_app(QUESTION, client=FaultyClient()) as (app, _):
            assert app.planning.problem is not None
            assert "boom" in app.planning.problem.message
            assert app.is_running

    SHARED_APP.run(drive())


@pytest.mark.parametrize(
    "keys", [("3",), pytest.param(("3", "down", "down", "enter"), marks=pytest.mark.slow)], ids=["reasons", "technique"]
)
def test_a_fault_in_a_thread_of_a_screen_is_shown_and_the_app_continues(keys: tuple[str, ...]) -> None:
    class FaultyClient(CannedClient):
        def findings(self, *values: object) -> Iterator[Finding]:
            raise RuntimeError("boom")

    async def drive() -> None:
        async with shared_app(QUESTION, client=FaultyClient()) as (app, pilot):
            await pilot.press("escape", *keys)
            await settled(pilot)
            assert "boom" in frame(app)
            assert "computing" not in frame(app)
            assert app.is_running

    SHARED_APP.run(drive())


def test_a_state_that_cannot_be_saved_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")

    async def drive() -> list[str]:
        app = an_app(QUESTION, AppSettings(resume=True, file=tmp_path / "state" / "session.json"), CannedClient())
        async with driven(app) as pilot:
            app.store.save()
            app.store.save()
            await pilot.pause()
            return [notice.message for notice in app._notifications]

    (message,) = asyncio.run(drive())
    assert message.startswith("the state is not saved: cannot write ")
