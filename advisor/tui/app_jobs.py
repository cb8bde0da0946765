"""What the app does with long work: begins it in a thread, shows it, keeps it in the background, ends it before the session ends."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import App
from textual.reactive import reactive
from textual.timer import Timer

from advisor.profiles.errors import AdvisorError
from advisor.tui.status_text import problem_of

if TYPE_CHECKING:  # loaded by the first long work, after the first frame
    from advisor.tui.workers.job import Job, Task
    from advisor.tui.workers.machine_tasks import MachineTasks

    _Base = App[None]
else:
    _Base = object

TICK_S = 0.2
_TOLD_FOR_S = 12.0
GONE_WITHIN_S = 8.0
"""A child that is asked to end is gone by then."""
LEAVE, STAY = "Cancel it, wait until its process is gone, and quit", "Go on; do not quit"
ANYWAY, WHEN_QUIET, NOT_NOW = (
    "Profile anyway: it is marked as shared, and ranges are wider",
    "Wait until it is quiet, then profile",
    "Cancel",
)
START, CANCEL = "Apply", "Cancel"


class Jobs(_Base):
    """The part of the session's app that runs one long work at a time."""

    chip: reactive[str] = reactive("")
    """The work in the background, in a few words; empty once its end was seen."""

    if TYPE_CHECKING:  # of the session's app
        from advisor.planning.advice import Advice
        from advisor.tui.app import AppSettings
        from advisor.tui.form.saved_state import SessionState
        from advisor.tui.workers.planning_client import Planned, PlanningClient

        desk: PlanningClient
        state: SessionState
        setting: AppSettings
        planned: reactive[Planned | None]
        detail: "reactive[Advice | None]"

        def plan_anew(self) -> None:
            """Look at this machine again and plan with what is known of it now."""

    job: "Job | None" = None
    _workshop: "MachineTasks | None" = None
    _tick: Timer | None = None
    _leaving = False
    _resumed = False

    @property
    def workshop(self) -> "MachineTasks":
        """The doors to the service; made by the first who needs them."""
        if self._workshop is None:
            from advisor.tui.workers.machine_tasks import MachineTasks

            self._workshop = MachineTasks()
        return self._workshop

    def use_workshop(self, workshop: "MachineTasks") -> None:
        """Take other doors."""
        self._workshop = workshop

    def tell(self, sentence: str) -> None:
        """Say something in the message line of the plan; in a toast where there is none."""
        from advisor.tui.screens.plan_actions import PlanActions

        if isinstance(self.screen, PlanActions):
            self.screen.say(sentence)
        else:
            self.notify(sentence, markup=False)

    def begin(self, task: "Task") -> None:
        """Begin a task and show it. One at a time: two would disturb each other's measurements."""
        from advisor.tui.workers.job import Job

        assert self.job is None or not self.job.running
        self.job = Job(task)
        self._run(self.job)
        self._tick = self.set_interval(TICK_S, self._look)
        self.show_job()

    @work(thread=True, group="job", exit_on_error=False)
    def _run(self, job: "Job") -> None:
        job.run()

    def _look(self) -> None:
        """Tell how the job stands; once it has ended, take in what came of it."""
        from advisor.tui.workers.job_text import chip

        job = self.job
        assert job is not None
        self.chip = chip(job)
        if job.running:
            return
        if self._tick is not None:
            self._tick.stop()
        if self._leaving:
            self.exit()
        else:
            self._ended(job)

    def _ended(self, job: "Job") -> None:
        from advisor.tui.screens.work import WorkScreen

        if job.task.verb == "profile" and job.error is None:
            self.plan_anew()
        if not isinstance(self.screen, WorkScreen):
            self.notify(f"{self.chip}; {job.task.verb[0]} shows it", markup=False)

    def show_job(self) -> None:
        """Put the job in front."""
        from advisor.tui.screens.work import WorkScreen

        if self.job is not None and not isinstance(self.screen, WorkScreen):
            self.push_screen(WorkScreen(self.job), self._job_seen)

    def _job_seen(self, follows: str | None) -> None:
        """The job's screen was left: an end that was seen needs no chip."""
        from advisor.tui.screens.work import AGAIN, COMPARE
        from advisor.tui.workers.job import again

        job = self.job
        if job is None or job.running:
            return
        self.chip = ""
        if follows == AGAIN:
            self.begin(again(job.task, job.work))
        elif follows == COMPARE and job.task.folder is not None:
            self.open_run(job.task.folder)

    def _shown_instead(self, verb: str) -> bool:
        """Show the job that runs, or the end of one that was not seen yet; whether there is one."""
        if self.job is None or not (self.job.running or (self.chip and self.job.task.verb == verb)):
            return False
        self.show_job()
        return True

    def action_profile(self) -> None:
        """Measure this machine, or show the measuring."""
        if not self._shown_instead("profile"):
            self._watch_neighbours()

    @work(thread=True, exclusive=True, group="ask", exit_on_error=False)
    def _watch_neighbours(self) -> None:
        busy = self.workshop.busy()
        self.call_from_thread(self._profile_or_ask, busy)

    def _profile_or_ask(self, busy: str | None) -> None:
        from advisor.tui.screens.asking import AskScreen

        def take(answer: str | None) -> None:
            if answer in (ANYWAY, WHEN_QUIET):
                self.begin(self.workshop.profile(wait=answer == WHEN_QUIET))

        if busy is None:
            self.begin(self.workshop.profile())
            return
        lines = [f"{busy[:1].upper()}{busy[1:]}. Timings taken now would be too long."]
        self.push_screen(AskScreen("Profile this machine", lines, (NOT_NOW, WHEN_QUIET, ANYWAY)), take)

    def action_apply(self) -> None:
        """Review the selected plan, then apply it; or show the applying."""
        if self._shown_instead("apply"):
            return
        if self.planned is None or self.detail is None:
            self.tell("No plan to apply yet.")
            return
        self._review(self.planned, self.detail)

    @work(thread=True, exclusive=True, group="ask", exit_on_error=False)
    def _review(self, planned: "Planned", detail: "Advice") -> None:
        from advisor.tui.screens.asking import AskScreen, refusal

        try:
            reviewed = self.workshop.review(self.desk.plan_file(planned.asked, detail))
        except AdvisorError as error:
            screen = AskScreen("This plan cannot be applied here", refusal(problem_of(error)), (CANCEL,))
            self.call_from_thread(self.push_screen, screen)
            return
        from advisor.tui.screens.review import ReviewScreen

        def take(answer: str | None) -> None:
            if answer == START:
                self.begin(self.workshop.apply(reviewed))

        self.call_from_thread(self.push_screen, ReviewScreen(reviewed, (CANCEL, START)), take)

    def watch_planned(self) -> None:
        """Where the first plan of a session that was resumed is there, it may be one that was being applied."""
        if self.detail is not None and self.planned is not None and self.setting.resume and not self._resumed:
            self._resumed = True
            self._look_for_rest(self.planned, self.detail)

    def watch_detail(self) -> None:
        """The same, where the reasons of that plan came later."""
        self.watch_planned()

    @work(thread=True, group="rest", exit_on_error=False)
    def _look_for_rest(self, planned: "Planned", detail: "Advice") -> None:
        from advisor.running.folders import runs_folder

        if not planned.here or not runs_folder().is_dir():
            return
        with contextlib.suppress(AdvisorError):  # a plan that makes no file has no run
            rest = self.workshop.unfinished(self.desk.plan_file(planned.asked, detail).id)
            if rest is not None:
                told = f"This plan was being applied: {rest.done} of {rest.rungs} rungs are finished. a goes on with the rest."
                self.call_from_thread(self.notify, told, markup=False, timeout=_TOLD_FOR_S)

    def compare_run(self) -> None:
        """Predicted against measured: the latest run of the selected plan, else a run to pick from the list."""
        self._find_run(self.planned, self.detail)

    @work(thread=True, exclusive=True, group="ask", exit_on_error=False)
    def _find_run(self, planned: "Planned | None", detail: "Advice | None") -> None:
        folder = None
        if planned is not None and detail is not None:
            try:
                folder = self.workshop.run_of(self.desk.plan_file(planned.asked, detail).id)
            except AdvisorError:  # a plan that makes no file has no run
                folder = None
        if folder is not None:
            self.call_from_thread(self.open_run, folder)
        else:
            self.call_from_thread(self.pick_run)

    def pick_run(self) -> None:
        """Choose one of the runs on this machine."""
        from advisor.rendering.text.style import clip
        from advisor.tui.screens.modals import ListScreen

        runs = [run for run in self.workshop.runs() if run.done]
        if not runs:
            self.tell("Nothing was run yet: a applies the selected plan. To compare two plans, mark one with space and press c on another.")
            return
        lines = [
            clip(f"{run.created}  {run.done} of {run.rungs} rungs  {run.title}", max(self.size.width * 9 // 10 - 6, 20)) for run in runs
        ]
        hint = "Enter opens the run, Esc goes back. Space marks plans to compare."
        self.push_screen(
            ListScreen("Runs on this machine", lines, hint), lambda taken: self.open_run(runs[int(taken)].folder) if taken else None
        )

    def open_run(self, folder: Path) -> None:
        """Show a run: predicted against measured."""
        from advisor.tui.screens.compare import CompareScreen

        try:
            run = self.workshop.open(folder)
        except AdvisorError as error:
            self.tell(problem_of(error).message)
            return
        self.push_screen(CompareScreen(run, folder))

    async def action_quit(self) -> None:
        """Leave; where work runs, ask, then cancel it and wait until its process is gone."""
        if self.job is None or not self.job.running:
            self.exit()
            return
        from advisor.tui.screens.asking import AskScreen

        if isinstance(self.screen, AskScreen) and self.screen.choices == (STAY, LEAVE):
            return
        lines = [f"{self.job.task.title} is running. What it has finished is kept."]
        self.push_screen(AskScreen("Quit", lines, (STAY, LEAVE)), self._leave)

    def _leave(self, answer: str | None) -> None:
        if answer == LEAVE and self.job is not None:
            self._leaving = True
            self.job.cancel()
            self._look()

    def on_unmount(self) -> None:
        """However the session ends, no process of it stays."""
        if self.job is not None and self.job.running:
            self.job.cancel()
            self.job.wait(GONE_WITHIN_S)
