"""The tiny model applied for real: cancelled half-way, resumed, a child killed while it makes noise."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from textual.pilot import Pilot

from advisor.profiles.run import RungStatus
from advisor.running.folders import runs_folder
from advisor.tui.app import AdvisorApp
from advisor.tui.form.values import FormValues
from advisor.tui.screens.compare import CompareScreen
from advisor.tui.screens.review import ReviewScreen
from advisor.tui.screens.work import WorkScreen
from advisor.tui.workers.job_progress import StageStatus
from advisor.tui.workers.machine_tasks import MachineTasks
from tests.tui.driving import LocalClient, an_app, driven, frame
from tests.tui.jobs import until

WORKER = "advisor.backends.worker"


def of_this_machine(folder: Path) -> FormValues:
    lengths = {"context": "96", "prompt_tokens": "32", "output_tokens": "8", "concurrency": "2", "profile": "none"}
    left_out = ("batching-continuous", "decode-prompt-lookup", "weights-int8")
    return FormValues({"model": str(folder), **lengths}, ("attention-flash", "kv-paged"), left_out)


def children() -> list[int]:
    """Workers of this process that still run."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, IndexError):
            continue
        if parent == os.getpid() and WORKER in words:
            processes.append(int(entry.name))
    return processes


async def begun(pilot: Pilot[None], app: AdvisorApp) -> None:
    """Review the plan and apply it."""
    await pilot.press("escape", "a")
    await until(pilot, lambda: isinstance(app.screen, ReviewScreen))
    await pilot.press("down", "enter")
    await until(pilot, lambda: isinstance(app.screen, WorkScreen))


def statuses(app: AdvisorApp) -> list[StageStatus]:
    assert app.jobs.job is not None
    return [stage.status for stage in app.jobs.job.progress.stages]


@pytest.mark.slow
def test_an_apply_that_is_cancelled_leaves_no_process_and_resumes_later(tiny_model_folder: Path) -> None:
    async def drive() -> None:
        app = an_app(of_this_machine(tiny_model_folder), client=LocalClient())
        async with driven(app) as pilot:
            await begun(pilot, app)
            await until(pilot, lambda: statuses(app)[:2] == [StageStatus.DONE, StageStatus.RUNNING], 240)
            assert len(children()) == 1
            await pilot.press("ctrl+x")
            await until(pilot, lambda: "apply cancelled" in frame(app), 60)
            assert children() == []
            (folder,) = runs_folder().iterdir()
            run = MachineTasks().open(folder)
            assert [rung.status for rung in run.rungs][:2] == [RungStatus.DONE, RungStatus.CANCELLED]
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, CompareScreen))
            await until(pilot, lambda: "baseline" in frame(app))
            await pilot.press("escape", "a")
            await until(pilot, lambda: isinstance(app.screen, ReviewScreen))
            await until(pilot, lambda: "measured before, kept" in frame(app))
            assert list(runs_folder().iterdir()) == [folder]

    asyncio.run(drive())


@pytest.mark.slow
def test_a_child_that_is_killed_and_its_noise_leave_the_screen_whole(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # the child says every import on its standard error

    async def drive() -> None:
        app = an_app(of_this_machine(tiny_model_folder), client=LocalClient())
        async with driven(app) as pilot:
            await begun(pilot, app)
            await until(pilot, children, 60)
            (child,) = children()
            os.kill(child, signal.SIGKILL)
            await until(pilot, lambda: "killed by SIGKILL" in " ".join(frame(app).split()), 60)
            assert statuses(app)[0] is StageStatus.FAILED
            await pilot.press("ctrl+x")
            await until(pilot, lambda: app.jobs.job is not None and not app.jobs.job.running, 60)
            assert children() == []
            assert app.is_running

    asyncio.run(drive())
    assert capfd.readouterr().err == ""
    assert "import 'encodings'" in next(runs_folder().glob("*/logs/*")).read_text(errors="replace")


@pytest.mark.slow
def test_a_rung_whose_child_was_killed_is_measured_again_with_one_key(tiny_model_folder: Path) -> None:
    async def drive() -> None:
        app = an_app(of_this_machine(tiny_model_folder), client=LocalClient())
        async with driven(app) as pilot:
            await begun(pilot, app)
            await until(pilot, lambda: statuses(app)[:2] == [StageStatus.DONE, StageStatus.RUNNING] and children(), 240)
            (child,) = children()
            os.kill(child, signal.SIGKILL)
            await until(pilot, lambda: app.jobs.job is not None and not app.jobs.job.running, 240)
            assert statuses(app)[:2] == [StageStatus.DONE, StageStatus.FAILED]
            await until(pilot, lambda: "r resumes at attention-flash" in frame(app))
            await pilot.press("r")
            await until(pilot, lambda: app.jobs.job is not None and app.jobs.job.running and statuses(app)[0] is StageStatus.REUSED)
            await until(pilot, lambda: app.jobs.job is not None and not app.jobs.job.running, 240)
            (folder,) = runs_folder().iterdir()
            assert {rung.status for rung in MachineTasks().open(folder).rungs} == {RungStatus.DONE}

    asyncio.run(drive())
