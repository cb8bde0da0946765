"""The controller of long work: starts it in a thread, shows it, leaves it in the background, and ends it before the app ends."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App
from textual.timer import Timer

from advisor.profiles.errors import AdvisorError
from advisor.tui.contract import Interface
from advisor.tui.form.problem import problem_of
from advisor.tui.observers import Observers

if TYPE_CHECKING:  # loaded by the first long work, after the first frame
    from advisor.planning.advice import Advice
    from advisor.tui.workers.job import Job, Task
    from advisor.tui.workers.machine_tasks import MachineTasks
    from advisor.tui.workers.planning_client import Planned

TICK_S = 0.2
_NOTICE_S = 12.0
ENDS_WITHIN_S = 8.0
"""Longest wait for a child process that was asked to end."""
LEAVE, STAY = "Cancel it, wait until its process has ended, and quit", "Do not quit"
ANYWAY, WHEN_IDLE, NOT_NOW = (
    "Profile anyway: it is marked as shared, and ranges are wider",
    "Wait until the machine is idle, then profile",
    "Cancel",
)
START, CANCEL = "Apply", "Cancel"


class JobsController:
    """Runs one long work at a time: two would disturb each other's measurements."""

    def __init__(self, app: App[None], ui: Interface) -> None:
        self.job: Job | None = None
        self.chip = ""
        """The work in the background in a few words; empty once its end was seen."""
        self.chip_changed = Observers()
        self._app = app
        self._ui = ui
        self._tasks: MachineTasks | None = None
        self._tick: Timer | None = None
        self._leaving = False
        self._rest_sought = False
        ui.planning.plans_changed.subscribe(app, self._look_for_rest)
        ui.planning.detail_changed.subscribe(app, self._look_for_rest)

    @property
    def tasks(self) -> "MachineTasks":
        """The tasks on this machine, loaded when they are first needed."""
        if self._tasks is None:
            from advisor.tui.workers.machine_tasks import MachineTasks

            self._tasks = MachineTasks()
        return self._tasks

    def use_tasks(self, tasks: "MachineTasks") -> None:
        """Replace the tasks."""
        self._tasks = tasks

    def begin(self, task: "Task") -> None:
        """Start a task and show it."""
        from advisor.tui.workers.job import Job

        assert self.job is None or not self.job.running
        self.job = Job(task)
        self._app.run_worker(self.job.run, thread=True, group="job", exit_on_error=False)
        self._tick = self._app.set_interval(TICK_S, self._follow)
        self.show_job()

    def show_job(self) -> None:
        """Show the screen of the work."""
        from advisor.tui.screens.work import WorkScreen

        if self.job is not None and not isinstance(self._app.screen, WorkScreen):
            self._ui.open_screen(WorkScreen(self._ui, self.job), self._job_screen_left)

    def profile(self) -> None:
        """Measure this machine, or show the measurement that runs."""
        if not self._shown_instead("profile"):
            self._in_thread(self._watch_other_load)

    def apply(self) -> None:
        """Review the selected plan and apply it, or show the run that is under way."""
        if self._shown_instead("apply"):
            return
        planning = self._ui.planning
        if planning.planned is None or planning.detail is None:
            self._ui.show_message("No plan to apply yet.")
            return
        self._in_thread(partial(self._review, planning.planned, planning.detail))

    def compare_run(self) -> None:
        """Show predicted against measured for the latest run of the selected plan, or a list of runs."""
        self._in_thread(partial(self._find_run, self._ui.planning.planned, self._ui.planning.detail))

    def pick_run(self) -> None:
        """Show the list of runs on this machine."""
        from advisor.rendering.text.style import clip
        from advisor.tui.screens.modals import ListScreen

        runs = [run for run in self.tasks.runs() if run.done]
        if not runs:
            self._ui.show_message(
                "No runs yet: a applies the selected plan. To compare two plans, mark one with space and press c on another."
            )
            return
        width = max(self._app.size.width * 9 // 10 - 6, 20)
        lines = [clip(f"{run.created}  {run.done} of {run.rungs} rungs  {run.title}", width) for run in runs]
        hint = "Enter opens the run, Esc goes back. Space marks plans to compare."

        def open_picked(picked: str | None) -> None:
            if picked is not None:
                self.open_run(runs[int(picked)].folder)

        self._ui.open_screen(ListScreen("Runs on this machine", lines, hint), open_picked)

    def open_run(self, folder: Path) -> None:
        """Show a run: predicted against measured."""
        from advisor.tui.screens.compare import CompareScreen

        try:
            run = self.tasks.open(folder)
        except AdvisorError as error:
            self._ui.show_message(problem_of(error).message)
            return
        self._ui.open_screen(CompareScreen(self._ui, run, folder))

    def quit(self) -> None:
        """Leave the app; where work runs, ask first, then cancel it and wait until its process has ended."""
        if self.job is None or not self.job.running:
            self._app.exit()
            return
        from advisor.tui.screens.asking import AskScreen

        if isinstance(self._app.screen, AskScreen) and self._app.screen.choices == (STAY, LEAVE):
            return
        lines = [f"{self.job.task.title} is running. What it has finished is saved."]
        self._ui.open_screen(AskScreen(self._ui, "Quit", lines, (STAY, LEAVE)), self._leave)

    def close(self) -> None:
        """End the work as the app ends, so that no process is left."""
        if self.job is not None and self.job.running:
            self.job.cancel()
            self.job.wait(ENDS_WITHIN_S)

    def _in_thread(self, work: Callable[[], None]) -> None:
        self._app.run_worker(work, thread=True, exclusive=True, group="ask", exit_on_error=False)

    def _set_chip(self, chip: str) -> None:
        if chip != self.chip:
            self.chip = chip
            self.chip_changed.notify()

    def _follow(self) -> None:
        """Show how far the work is, and what follows from its end."""
        from advisor.tui.workers.job_text import chip

        job = self.job
        assert job is not None
        self._set_chip(chip(job))
        if job.running:
            return
        if self._tick is not None:
            self._tick.stop()
        if self._leaving:
            self._app.exit()
        else:
            self._ended(job)

    def _ended(self, job: "Job") -> None:
        from advisor.tui.screens.work import WorkScreen

        if job.task.verb == "profile" and job.error is None:
            self._ui.planning.plan_again()
        if not isinstance(self._app.screen, WorkScreen):
            self._app.notify(f"{self.chip}; {job.task.verb[0]} shows it", markup=False)

    def _job_screen_left(self, follows: str | None) -> None:
        from advisor.tui.screens.work import AGAIN, COMPARE
        from advisor.tui.workers.job import again

        job = self.job
        if job is None or job.running:
            return
        self._set_chip("")
        if follows == AGAIN:
            self.begin(again(job.task, job.progress))
        elif follows == COMPARE and job.task.folder is not None:
            self.open_run(job.task.folder)

    def _shown_instead(self, verb: str) -> bool:
        """Show the work that runs, or the end of `verb` that was not seen yet; returns whether there is one."""
        if self.job is None or not (self.job.running or (self.chip and self.job.task.verb == verb)):
            return False
        self.show_job()
        return True

    def _watch_other_load(self) -> None:
        self._app.call_from_thread(self._profile_or_ask, self.tasks.other_load())

    def _profile_or_ask(self, other_load: str | None) -> None:
        from advisor.tui.screens.asking import AskScreen

        def begin(answer: str | None) -> None:
            if answer in (ANYWAY, WHEN_IDLE):
                self.begin(self.tasks.profile(wait=answer == WHEN_IDLE))

        if other_load is None:
            self.begin(self.tasks.profile())
            return
        lines = [f"{other_load[:1].upper()}{other_load[1:]}. Timings measured now would be too long."]
        self._ui.open_screen(AskScreen(self._ui, "Profile this machine", lines, (NOT_NOW, WHEN_IDLE, ANYWAY)), begin)

    def _review(self, planned: "Planned", detail: "Advice") -> None:
        from advisor.tui.screens.asking import AskScreen, refusal

        try:
            reviewed = self.tasks.review(self._ui.planning.client.plan_file(planned.values, detail))
        except AdvisorError as error:
            screen = AskScreen(self._ui, "This plan cannot be applied here", refusal(problem_of(error)), (CANCEL,))
            self._app.call_from_thread(self._ui.open_screen, screen)
            return
        from advisor.tui.screens.review import ReviewScreen

        def begin(answer: str | None) -> None:
            if answer == START:
                self.begin(self.tasks.apply(reviewed))

        self._app.call_from_thread(self._ui.open_screen, ReviewScreen(self._ui, reviewed, (CANCEL, START)), begin)

    def _look_for_rest(self) -> None:
        """Where a resumed state has its first detail, look once for an unfinished run of that plan."""
        planning = self._ui.planning
        if planning.detail is not None and planning.planned is not None and self._ui.settings.resume and not self._rest_sought:
            self._rest_sought = True
            work = partial(self._find_rest, planning.planned, planning.detail)
            self._app.run_worker(work, thread=True, group="rest", exit_on_error=False)

    def _find_rest(self, planned: "Planned", detail: "Advice") -> None:
        from advisor.running.folders import runs_folder

        if not planned.on_this_machine or not runs_folder().is_dir():
            return
        with contextlib.suppress(AdvisorError):  # a plan that makes no file has no run
            rest = self.tasks.unfinished(self._ui.planning.client.plan_file(planned.values, detail).id)
            if rest is not None:
                notice = f"A run of this plan is unfinished: {rest.done} of {rest.rungs} rungs are finished. a runs the rest."
                self._app.call_from_thread(self._app.notify, notice, markup=False, timeout=_NOTICE_S)

    def _find_run(self, planned: "Planned | None", detail: "Advice | None") -> None:
        folder = None
        if planned is not None and detail is not None:
            with contextlib.suppress(AdvisorError):  # a plan that makes no file has no run
                folder = self.tasks.run_of(self._ui.planning.client.plan_file(planned.values, detail).id)
        if folder is not None:
            self._app.call_from_thread(self.open_run, folder)
        else:
            self._app.call_from_thread(self.pick_run)

    def _leave(self, answer: str | None) -> None:
        if answer == LEAVE and self.job is not None:
            self._leaving = True
            self.job.cancel()
            self._follow()
