"""With real children: a profile that is measured, and a run that refits it, change later plans."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from textual.pilot import Pilot

from advisor.backends.detection.detect import detect, detected_hardware, fingerprint
from advisor.profiles.machine import MachineProfile, Refit
from advisor.profiles.metrics import Basis, Value
from advisor.profiles.store import list_profiles, load_profile, save_profile
from advisor.running import profile as profiling
from advisor.tui.app import AdvisorApp
from advisor.tui.form.values import FormValues
from advisor.tui.screens.asking import AskScreen
from advisor.tui.screens.compare import CompareScreen
from advisor.tui.screens.work import WorkScreen
from advisor.tui.workers.job_progress import Ending
from advisor.tui.workers.machine_tasks import MachineTasks
from tests.paths import ROOT
from tests.tui.driving import LocalClient, an_app, driven, frame, settled
from tests.tui.jobs import until
from tests.tui.test_apply_here import begun, children, of_this_machine

CANNED_PROFILE = ROOT / "tests/canned/profile.yaml"
SHORT_BUDGET_S = 2.0


class Quiet(MachineTasks):
    """Does not ask whether others use the machine."""

    def other_load(self) -> str | None:
        return None


def header_of(app: AdvisorApp) -> str:
    return frame(app).splitlines()[0]


def tpot_of(app: AdvisorApp) -> Value:
    assert app.planning.planned is not None
    value = app.planning.planned.advice.chosen.metrics.tpot_ms_mean
    assert value is not None
    return value


async def done(pilot: Pilot[None], app: AdvisorApp) -> None:
    """Wait for the end of the work in front, which is no failure."""
    await until(pilot, lambda: app.jobs.job is not None and not app.jobs.job.running, 240)
    assert app.jobs.job is not None
    assert (app.jobs.job.progress.ended, app.jobs.job.progress.failed) == (Ending.DONE, ()), app.jobs.job.progress
    assert children() == []


def with_profile(folder: Path) -> FormValues:
    return of_this_machine(folder).with_text("profile", "")


@pytest.mark.slow
def test_plans_follow_a_profile_that_was_measured_with_p(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "BUDGET_S", SHORT_BUDGET_S)

    async def drive() -> None:
        app = an_app(with_profile(tiny_model_folder), client=LocalClient())
        app.jobs.use_tasks(Quiet())
        async with driven(app) as pilot:
            assert "[DATASHEET]" in header_of(app)
            assert tpot_of(app).basis is not Basis.PROFILED
            await pilot.press("escape", "p")
            await until(pilot, lambda: isinstance(app.screen, WorkScreen))
            await done(pilot, app)
            (stored,) = list_profiles()
            await pilot.press("escape")
            await settled(pilot)
            assert f"[PROFILED {stored.name}]" in header_of(app)
            assert tpot_of(app).basis is Basis.PROFILED

    asyncio.run(drive())


def stored_profile() -> MachineProfile:
    """A profile that passes for one of this machine, but was not taken on it: a run has much to teach it."""
    here = detect()
    fields = {"name": "taught", "hardware": detected_hardware(here), "fingerprint": fingerprint(here)}
    taken = {"taken": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "refit": Refit(operators=3.0, overheads=3.0, runs=("run-0",))}
    profile = load_profile(CANNED_PROFILE).model_copy(update=fields | taken)
    save_profile(profile)
    return profile


@pytest.mark.slow
def test_a_real_run_refits_the_profile_with_f_and_later_plans_follow_it(tiny_model_folder: Path) -> None:
    before = stored_profile()

    async def drive() -> None:
        app = an_app(with_profile(tiny_model_folder), client=LocalClient())
        app.jobs.use_tasks(Quiet())
        async with driven(app) as pilot:
            assert "[PROFILED taught]" in header_of(app)
            expected = tpot_of(app).value
            await begun(pilot, app)
            await done(pilot, app)
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, CompareScreen))
            await pilot.press("f")
            await until(pilot, lambda: isinstance(app.screen, AskScreen), 60)
            assert "Refit the machine's profile" in frame(app)
            assert load_profile("taught") == before
            await pilot.press("down", "enter")
            await until(pilot, lambda: "Stored in taught; plans use it now." in frame(app))
            taught = load_profile("taught").refit
            assert taught is not None
            assert len(taught.runs) == 2
            await pilot.press("escape", "escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
            await settled(pilot)
            assert tpot_of(app).value < expected
            assert taught.operators < 3.0 or taught.overheads < 3.0

    asyncio.run(drive())
