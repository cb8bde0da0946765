"""Golden frames of the review and of work: running, done, failed and cancelled, at three sizes, in ASCII and without colour."""

import asyncio
from dataclasses import dataclass

import pytest
from textual.pilot import Pilot

from advisor.backends.processes.events import Event
from advisor.profiles.errors import AdvisorError
from advisor.tui.app import AdvisorApp
from advisor.tui.screens.review import ReviewScreen
from advisor.tui.screens.work import WorkScreen
from advisor.tui.settings import AppSettings
from advisor.tui.workers.job import Job
from advisor.tui.workers.job_text import chip
from tests.tui.canned import ASKED, CannedClient
from tests.tui.canned_work import APPLY_RUNNING, KILLED, MEMORY, NO_PROFILE, PROFILE_RUNNING, PROFILED, REST, CannedTasks
from tests.tui.driving import an_app, driven, frame
from tests.tui.golden import is_golden
from tests.tui.jobs import until

PLAIN, ASCII, NO_COLOUR = AppSettings(resume=True), AppSettings(resume=True, ascii=True), AppSettings(resume=True, no_colour=True)
Sizes = dict[str, tuple[int, int]]
SIZES: Sizes = {"80": (80, 24), "120": (120, 40), "200": (200, 50)}


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


def _variants(word: str, setting: AppSettings) -> tuple[tuple[str, str, AppSettings], ...]:
    return tuple((name, word, setting) for name in ("review", "apply-failed", "profile-running"))


VARIANTS = (*((name, "", PLAIN) for name in ("review", *CASES)), *_variants("ascii", ASCII), *_variants("no-colour", NO_COLOUR))


@pytest.mark.parametrize(("name", "variant", "setting"), VARIANTS, ids=lambda part: part if isinstance(part, str) else "")
def test_the_screen_is_as_the_golden_frame(name: str, variant: str, setting: AppSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    if setting.no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    sizes = SIZES if setting is PLAIN else {"120": SIZES["120"]}
    drawn = asyncio.run(reviewed(setting, sizes) if name == "review" else worked(CASES[name], setting, sizes))
    for size, text in drawn.items():
        is_golden("-".join(filter(None, (name, size, variant))), text, ascii=setting.ascii)


async def at_every_size(app: AdvisorApp, pilot: Pilot[None], sizes: Sizes) -> dict[str, str]:
    """The frame at each size; the same screen is dragged from one to the next."""
    frames = {}
    for name, size in sizes.items():
        await pilot.resize_terminal(*size)
        await pilot.pause(0.2)  # what follows a resize; the work itself still runs, so its end is not waited for
        assert isinstance(app.screen, ReviewScreen | WorkScreen)
        app.screen.redraw()
        await pilot.pause()
        frames[name] = box_of(app)
    return frames


def box_of(app: AdvisorApp) -> str:
    """The box alone: the screen below it is redrawn whenever it comes to that."""
    region = app.screen.query_one(".box").region
    lines = frame(app).splitlines()[region.y : region.bottom]
    return "".join(f"{line[region.x : region.right]}\n" for line in lines)


async def reviewed(setting: AppSettings, sizes: Sizes) -> dict[str, str]:
    """The review as it stands before anything is done."""
    app = an_app(ASKED, setting, CannedClient())
    app.jobs.use_tasks(CannedTasks(()))
    async with driven(app) as pilot:
        await pilot.press("escape", "a")
        await until(pilot, lambda: isinstance(app.screen, ReviewScreen))
        return await at_every_size(app, pilot, sizes)


async def worked(case: Case, setting: AppSettings, sizes: Sizes) -> dict[str, str]:
    """The work after all of its events."""
    app = an_app(ASKED, setting, CannedClient())
    tasks = CannedTasks(case.events, end=case.end)
    app.jobs.use_tasks(tasks)
    async with driven(app) as pilot:
        job = await begun(app, pilot, case.key)
        job.clock = lambda: 0.0
        tasks.let.set()
        await until(pilot, tasks.said.is_set)
        if case.cancelled:
            await pilot.press("ctrl+x")
        if case.cancelled or case.end:
            await until(pilot, lambda: not job.running)
        await until(pilot, lambda: app.jobs.chip == chip(job))
        frames = await at_every_size(app, pilot, sizes)
        job.cancel()
        return frames


async def begun(app: AdvisorApp, pilot: Pilot[None], key: str) -> Job:
    """The job that a key begins, its screen in front."""
    await pilot.press("escape", key)
    if key == "a":
        await until(pilot, lambda: isinstance(app.screen, ReviewScreen))
        await pilot.press("down", "enter")
    await until(pilot, lambda: isinstance(app.screen, WorkScreen))
    assert app.jobs.job is not None
    return app.jobs.job
