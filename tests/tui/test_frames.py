"""Frames are golden files of text made from canned answers: three widths, ASCII, without colour."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.segment import Segment
from textual.pilot import Pilot

from advisor.feedback.next_plans import NextPlans, ProfileSource
from advisor.running.folders import runs_folder
from advisor.tui.app import AdvisorApp
from advisor.tui.form.history import History
from advisor.tui.form.saved_state import SavedState
from advisor.tui.form.values import FormValues
from advisor.tui.screens.insights_cache import InsightsCache
from advisor.tui.screens.plan import PlanScreen
from advisor.tui.settings import AppSettings
from advisor.tui.workers.machine_tasks import MachineTasks
from tests.paths import ROOT
from tests.rendering.text.test_text import FITS
from tests.tui.canned import IMPOSSIBLE, QUESTION, CannedClient
from tests.tui.driving import an_app, driven, frame, settled
from tests.tui.golden import matches_golden
from tests.tui.jobs import run_folder

CANNED_RUN = ROOT / "tests/canned/run.json"
PLAIN, ASCII, NO_COLOUR = AppSettings(resume=True), AppSettings(resume=True, ascii=True), AppSettings(resume=True, no_colour=True)
LIGHT = AppSettings(resume=True, light=True)
SMALL, USUAL, WIDE = (80, 24), (120, 40), (200, 50)
FRAMES: dict[str, tuple[FormValues, AppSettings, tuple[int, int], tuple[str, ...]]] = {
    "start-80": (FormValues(), AppSettings(), SMALL, ()),
    "limits-80": (QUESTION, PLAIN, SMALL, ("escape", "1")),
    "plans-80": (QUESTION, PLAIN, SMALL, ("escape", "2")),
    "why-80": (QUESTION, PLAIN, SMALL, ("escape", "3")),
    "why-80-read": (QUESTION, PLAIN, SMALL, ("escape", "3", "down", "down", "down", "down")),
    "technique-80": (QUESTION, PLAIN, SMALL, ("escape", "3", "down", "down", "down", "enter")),
    "why-120": (QUESTION, PLAIN, USUAL, ("escape", "3", "down")),
    "why-200-ascii": (QUESTION, ASCII, WIDE, ("escape", "3", "down", "down")),
    "plot-80": (QUESTION, PLAIN, SMALL, ("escape", "4")),
    "limits-80-ascii": (QUESTION, ASCII, SMALL, ("escape", "1")),
    "plans-80-ascii": (QUESTION, ASCII, SMALL, ("escape", "2")),
    "plan-120": (QUESTION, PLAIN, USUAL, ("escape", "2")),
    "plan-120-ascii": (QUESTION, ASCII, USUAL, ("escape", "2")),
    "plan-120-no-colour": (QUESTION, NO_COLOUR, USUAL, ("escape", "2")),
    "plan-200": (QUESTION, PLAIN, WIDE, ("escape", "2")),
    "plan-200-ascii": (QUESTION, ASCII, WIDE, ("escape", "2")),
    "no-model-120": (FormValues(), PLAIN, USUAL, ()),
    "nothing-fits-120": (IMPOSSIBLE, PLAIN, USUAL, ("escape", "2")),
    "relax-120": (IMPOSSIBLE, PLAIN, USUAL, ("escape", "r")),
    "wrong-value-120": (QUESTION.with_text("context", "much"), PLAIN, USUAL, ()),
    "compare-120": (QUESTION, PLAIN, USUAL, ("escape", "2", "space", "f", "f", "down", "space", "c")),
    "compare-80": (QUESTION, PLAIN, SMALL, ("escape", "2", "space", "f", "f", "down", "space", "c")),
    "force-80": (QUESTION, PLAIN, SMALL, ("escape", "w")),
    "help-80": (QUESTION, PLAIN, SMALL, ("escape", "question_mark")),
    "runs-80": (QUESTION, PLAIN, SMALL, ("escape", "2", "c")),
    "run-80": (QUESTION, PLAIN, SMALL, ("escape", "2", "c", "enter")),
    "run-120": (QUESTION, PLAIN, USUAL, ("escape", "2", "c", "enter")),
    "run-120-ascii": (QUESTION, ASCII, USUAL, ("escape", "2", "c", "enter")),
    "run-next-80": (QUESTION, PLAIN, SMALL, ("escape", "2", "c", "enter")),
    "run-next-120": (QUESTION, PLAIN, USUAL, ("escape", "2", "c", "enter")),
    "find-80": (QUESTION, PLAIN, SMALL, ("escape", "2", "slash", "i", "n", "t", "4")),
    "find-80-why": (QUESTION, PLAIN, SMALL, ("escape", "3", "slash", "k", "v", "minus")),
    "palette-80": (QUESTION, PLAIN, SMALL, ("escape", "2", "ctrl+p")),
    "palette-80-ascii": (QUESTION, ASCII, SMALL, ("escape", "2", "ctrl+p")),
    "too-small": (QUESTION, PLAIN, (50, 14), ()),
}


VARIANTS = {
    "limits-80-ascii",
    "plans-80-ascii",
    "palette-80-ascii",
    "run-120-ascii",
    "why-200-ascii",
    "plan-120-ascii",
    "why-120",
    "compare-120",
    "run-120",
    "run-next-120",
    "plan-200",
    "plan-200-ascii",
    "why-80-read",
    "no-model-120",
}
"""Screens at a further width, in ASCII or further down, of which another frame is compared in every run."""


class WithNextPlans(MachineTasks):
    """Has two canned plans to try after any run."""

    def next_plans(self, folder: Path) -> tuple[NextPlans, tuple[str, ...]]:
        following = NextPlans(candidates=FITS.ranked[1:], profile_source=ProfileSource.AS_PLANNED, tightened=(("tpot_ms_p95", 12.0),))
        return following, ("--model=canned/llama-8b", "--tpot-ms=12")


async def shown(names: Iterable[str], light: bool = False) -> AsyncIterator[tuple[str, AdvisorApp]]:
    """The app with each frame in turn. Frames of the same question and settings share one app, which is resized in between."""
    in_order = sorted(names, key=lambda name: (_app_of(name), FRAMES[name][2]))
    for _, group in itertools.groupby(in_order, key=_app_of):
        first, *others = group
        values, settings, size, _ = FRAMES[first]
        app = an_app(values, replace(settings, light=settings.light or light), CannedClient())
        async with driven(app, size) as pilot:
            for name in (first, *others):
                await _show(app, pilot, name)
                yield name, app


def _app_of(name: str) -> str:
    values, settings, _, _ = FRAMES[name]
    return repr((values, settings))


async def _show(app: AdvisorApp, pilot: Pilot[None], name: str) -> None:
    """Begin anew on the screen below all boxes, at the size of the frame, and press its keys."""
    values, _, size, keys = FRAMES[name]
    while len(app.screen_stack) > 1:
        app.pop_screen()
        await settled(pilot)
    app.store.state = SavedState(History(values))
    app.jobs.use_tasks(WithNextPlans() if name.startswith("run-next") else MachineTasks())
    if isinstance(app.screen, PlanScreen) and keys:
        app.screen.note, app.screen.why.topic, app.screen.insights = "", None, InsightsCache()
        app.screen.why.scroll_home(animate=False)
        if app.planning.planned is not None:
            app.planning.show_problem(None)
            app.planning.detail = app.planning.planned.advice
        app.screen.open_panel("plans")
        app.screen.redraw()
        app.screen.show_problem()
    if app.size != size:
        await pilot.resize_terminal(*size)
    await settled(pilot)
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


def segments(app: AdvisorApp) -> Iterator[Segment]:
    """What stands on the screen, piece by piece with its style."""
    for strip in app.screen._compositor.render_strips():
        yield from strip


@pytest.mark.parametrize("variants", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["screens", "variants"])
def test_every_screen_is_as_its_golden_frame(variants: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/somebody/.config")
    run_folder(runs_folder() / "a-run", CANNED_RUN.read_text(encoding="utf-8"))

    async def drive() -> dict[str, str]:
        names = [name for name in FRAMES if not FRAMES[name][1].no_colour and (name in VARIANTS) is variants]
        return {name: frame(app) async for name, app in shown(names)}

    different = [name for name, text in asyncio.run(drive()).items() if not matches_golden(name, text, ascii=FRAMES[name][1].ascii)]
    assert different == [], "ADVISOR_GOLDEN=write makes them anew; read the diff"


def test_without_colour_no_cell_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    name = "plan-120-no-colour"

    async def drive() -> list[tuple[str, list[Segment]]]:
        return [(frame(app), list(segments(app))) async for _, app in shown([name])]

    ((text, styled),) = asyncio.run(drive())
    assert matches_golden(name, text, ascii=False)
    coloured = {
        str(segment.style)
        for segment in styled
        if segment.style and any(color is not None and not color.is_default for color in (segment.style.color, segment.style.bgcolor))
    }
    assert coloured == set()
