"""Frames are golden files of text made from canned answers: three widths, ASCII, without colour."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.segment import Segment

from advisor.feedback.next_plans import NextPlans, ProfileSource
from advisor.running.folders import runs_folder
from advisor.tui.app import AdvisorApp
from advisor.tui.form.values import FormValues
from advisor.tui.settings import AppSettings
from advisor.tui.workers.machine_tasks import MachineTasks
from tests.paths import ROOT
from tests.rendering.text.test_text import FITS
from tests.tui.canned import ASKED, IMPOSSIBLE, CannedClient
from tests.tui.driving import an_app, driven, frame, settled
from tests.tui.golden import is_golden
from tests.tui.jobs import run_folder

CANNED_RUN = ROOT / "tests/canned/run.json"
PLAIN, ASCII, NO_COLOUR = AppSettings(resume=True), AppSettings(resume=True, ascii=True), AppSettings(resume=True, no_colour=True)
LIGHT = AppSettings(resume=True, light=True)
SMALL, USUAL, WIDE = (80, 24), (120, 40), (200, 50)
FRAMES: dict[str, tuple[FormValues, AppSettings, tuple[int, int], tuple[str, ...]]] = {
    "start-80": (FormValues(), AppSettings(), SMALL, ()),
    "limits-80": (ASKED, PLAIN, SMALL, ("escape", "1")),
    "plans-80": (ASKED, PLAIN, SMALL, ("escape", "2")),
    "why-80": (ASKED, PLAIN, SMALL, ("escape", "3")),
    "why-80-read": (ASKED, PLAIN, SMALL, ("escape", "3", "down", "down", "down", "down")),
    "technique-80": (ASKED, PLAIN, SMALL, ("escape", "3", "down", "down", "down", "enter")),
    "why-120": (ASKED, PLAIN, USUAL, ("escape", "3", "down")),
    "why-200-ascii": (ASKED, ASCII, WIDE, ("escape", "3", "down", "down")),
    "plot-80": (ASKED, PLAIN, SMALL, ("escape", "4")),
    "limits-80-ascii": (ASKED, ASCII, SMALL, ("escape", "1")),
    "plans-80-ascii": (ASKED, ASCII, SMALL, ("escape", "2")),
    "plan-120": (ASKED, PLAIN, USUAL, ("escape", "2")),
    "plan-120-ascii": (ASKED, ASCII, USUAL, ("escape", "2")),
    "plan-120-no-colour": (ASKED, NO_COLOUR, USUAL, ("escape", "2")),
    "plan-200": (ASKED, PLAIN, WIDE, ("escape", "2")),
    "plan-200-ascii": (ASKED, ASCII, WIDE, ("escape", "2")),
    "no-model-120": (FormValues(), PLAIN, USUAL, ()),
    "nothing-fits-120": (IMPOSSIBLE, PLAIN, USUAL, ("escape", "2")),
    "relax-120": (IMPOSSIBLE, PLAIN, USUAL, ("escape", "r")),
    "wrong-value-120": (ASKED.with_text("context", "much"), PLAIN, USUAL, ()),
    "compare-120": (ASKED, PLAIN, USUAL, ("escape", "2", "space", "f", "f", "down", "space", "c")),
    "compare-80": (ASKED, PLAIN, SMALL, ("escape", "2", "space", "f", "f", "down", "space", "c")),
    "force-80": (ASKED, PLAIN, SMALL, ("escape", "w")),
    "help-80": (ASKED, PLAIN, SMALL, ("escape", "question_mark")),
    "runs-80": (ASKED, PLAIN, SMALL, ("escape", "2", "c")),
    "run-80": (ASKED, PLAIN, SMALL, ("escape", "2", "c", "enter")),
    "run-120": (ASKED, PLAIN, USUAL, ("escape", "2", "c", "enter")),
    "run-120-ascii": (ASKED, ASCII, USUAL, ("escape", "2", "c", "enter")),
    "run-next-80": (ASKED, PLAIN, SMALL, ("escape", "2", "c", "enter")),
    "run-next-120": (ASKED, PLAIN, USUAL, ("escape", "2", "c", "enter")),
    "find-80": (ASKED, PLAIN, SMALL, ("escape", "2", "slash", "i", "n", "t", "4")),
    "find-80-why": (ASKED, PLAIN, SMALL, ("escape", "3", "slash", "k", "v", "minus")),
    "palette-80": (ASKED, PLAIN, SMALL, ("escape", "2", "ctrl+p")),
    "palette-80-ascii": (ASKED, ASCII, SMALL, ("escape", "2", "ctrl+p")),
    "too-small": (ASKED, PLAIN, (50, 14), ()),
}


class WithNextPlans(MachineTasks):
    """Has two canned plans to try after any run."""

    def next_plans(self, folder: Path) -> tuple[NextPlans, tuple[str, ...]]:
        following = NextPlans(candidates=FITS.ranked[1:], profile_source=ProfileSource.AS_PLANNED, tightened=(("tpot_ms_p95", 12.0),))
        return following, ("--model=canned/llama-8b", "--tpot-ms=12")


def pictured(name: str) -> tuple[str, list[Segment]]:
    asked, setting, size, keys = FRAMES[name]
    if name.startswith("run"):
        run_folder(runs_folder() / "a-run", CANNED_RUN.read_text(encoding="utf-8"))

    async def drive() -> tuple[str, list[Segment]]:
        app = an_app(asked, setting, CannedClient())
        if name.startswith("run-next"):
            app.jobs.use_tasks(WithNextPlans())
        async with driven(app, size) as pilot:
            for key in keys:
                await pilot.press(key)
                await settled(pilot)
            return frame(app), list(segments(app))

    return asyncio.run(drive())


def segments(app: AdvisorApp) -> Iterator[Segment]:
    """What stands on the screen, piece by piece with its style."""
    for strip in app.screen._compositor.render_strips():
        yield from strip


@pytest.mark.parametrize("name", FRAMES)
def test_the_screen_is_as_the_golden_frame(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/somebody/.config")
    text, _ = pictured(name)
    is_golden(name, text, ascii=FRAMES[name][1].ascii)


def test_without_colour_no_cell_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    _, segments = pictured("plan-120-no-colour")
    coloured = {
        str(segment.style)
        for segment in segments
        if segment.style and any(color is not None and not color.is_default for color in (segment.style.color, segment.style.bgcolor))
    }
    assert coloured == set()
