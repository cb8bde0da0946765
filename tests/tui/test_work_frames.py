"""Golden frames of the review and of work: running, done, failed and cancelled, at three sizes, in ASCII and without colour."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from advisor.backends.processes.events import Event
from advisor.profiles.errors import AdvisorError
from advisor.tui.app import AdvisorApp
from advisor.tui.app_jobs import CANCEL, START
from advisor.tui.form.values import FormValues
from advisor.tui.screens.review import ReviewScreen
from advisor.tui.screens.work import WorkScreen
from advisor.tui.settings import AppSettings
from advisor.tui.workers.job import Job
from tests.tui.canned import CannedClient
from tests.tui.canned_work import APPLY_RUNNING, KILLED, MEMORY, NO_PROFILE, PROFILE_RUNNING, PROFILED, REST, REVIEW, CannedTasks
from tests.tui.driving import an_app, driven, frame, settled
from tests.tui.golden import matches_golden

PLAIN, ASCII, NO_COLOUR = AppSettings(resume=True), AppSettings(resume=True, ascii=True), AppSettings(resume=True, no_colour=True)
Sizes = dict[str, tuple[int, int]]
SIZES: Sizes = {"80": (80, 24), "120": (120, 40)}
WIDE: Sizes = {"200": (200, 50)}


@dataclass(frozen=True)
class Case:
    key: str
    events: tuple[Event, ...]
    end: AdvisorError | bool = False
    cancelled: bool = False


CASES = {
    "apply-running": Case("a", APPLY_RUNNING),
    "apply-done": Case("a", (*APPLY_RUNNING, *REST), end=True),
    "apply-failed": Case("a", (*APPLY_RUNNING, KILLED, MEMORY), end=True),
    "apply-cancelled": Case("a", APPLY_RUNNING, cancelled=True),
    "profile-running": Case("p", PROFILE_RUNNING),
    "profile-done": Case("p", (*PROFILE_RUNNING, *PROFILED), end=True),
    "profile-failed": Case("p", PROFILE_RUNNING, end=NO_PROFILE),
    "profile-cancelled": Case("p", PROFILE_RUNNING, cancelled=True),
}


VARIED = ("apply-failed", "profile-running")
"""Cases that are drawn in ASCII and without colour too, at 120 columns."""


@pytest.mark.parametrize(
    ("variant", "settings", "sizes"),
    [
        pytest.param("", PLAIN, SIZES, id="plain"),
        pytest.param("", PLAIN, WIDE, id="wide", marks=pytest.mark.slow),
        pytest.param("ascii", ASCII, {"120": SIZES["120"]}, id="ascii", marks=pytest.mark.slow),
        pytest.param("no-colour", NO_COLOUR, {"120": SIZES["120"]}, id="no-colour", marks=pytest.mark.slow),
    ],
)
def test_every_box_of_work_is_as_its_golden_frame(
    variant: str, settings: AppSettings, sizes: Sizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    if settings.no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    cases = [name for name in CASES if not variant or name in VARIED]
    drawn = asyncio.run(boxes(settings, sizes, cases))
    named = {"-".join(filter(None, (*key, variant))): text for key, text in drawn.items()}
    different = [name for name, text in named.items() if not matches_golden(name, text, ascii=settings.ascii)]
    assert different == [], "ADVISOR_GOLDEN=write makes them anew; read the diff"


async def boxes(settings: AppSettings, sizes: Sizes, cases: list[str]) -> dict[tuple[str, str], str]:
    """The box of the review and of each case at each size, drawn by one app."""
    drawn = {}
    app = an_app(FormValues(), replace(settings, resume=False), CannedClient())
    async with driven(app) as pilot:
        for size, (columns, rows) in sizes.items():
            await pilot.resize_terminal(columns, rows)
            for name in ("review", *cases):
                app.push_screen(
                    ReviewScreen(app, REVIEW, (CANCEL, START)) if name == "review" else WorkScreen(app, canned_job(CASES[name]))
                )
                await settled(pilot)
                assert isinstance(app.screen, ReviewScreen | WorkScreen)
                app.screen.redraw()
                await pilot.pause()
                drawn[name, size] = box_of(app)
                app.pop_screen()
                await settled(pilot)
    return drawn


def canned_job(case: Case) -> Job:
    """The job of a case after all of its events."""
    tasks = CannedTasks(case.events, end=case.end)
    job = Job(tasks.apply(REVIEW) if case.key == "a" else tasks.profile(), clock=lambda: 0.0)
    if case.cancelled or case.end:
        tasks.let.set()
        if case.cancelled:
            job.cancel()
        job.run()
    else:
        for event in case.events:
            job._on_event(event)
    return job


def box_of(app: AdvisorApp) -> str:
    """The box alone, without the screen below it."""
    region = app.screen.query_one(".box").region
    lines = frame(app).splitlines()[region.y : region.bottom]
    return "".join(f"{line[region.x : region.right]}\n" for line in lines)
