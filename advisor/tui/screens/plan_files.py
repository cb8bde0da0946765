"""Plan files of the Plan screen: saved and opened."""

from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from advisor.profiles.errors import AdvisorError
from advisor.tui.contract import session_of
from advisor.tui.form.choices import Choices, plan_files
from advisor.tui.screens.asking import AskScreen
from advisor.tui.screens.modals import PathScreen, PickScreen
from advisor.tui.screens.plan_actions import PlanActions
from advisor.tui.status_text import problem_of

if TYPE_CHECKING:
    from advisor.planfile.file import PlanFile

_LEAVE, _REPLACE = "Leave it as it is", "Put this plan in its place"


class PlanFiles(PlanActions):
    """What `e` and `o` do."""

    _saved_in = Path()

    def action_save(self) -> None:
        """Save the selected plan as `advisor plan` would."""
        if session_of(self).detail is None:
            self.say("No plan to save yet.")
            return
        self.app.push_screen(
            PathScreen("Save the plan", "plan.yaml", "Enter saves; advisor apply runs the file. Esc goes back."), self._save
        )

    def _save(self, path: str | None) -> None:
        session = session_of(self)
        if path is None or session.detail is None or session.planned is None:
            return
        from advisor.planfile.store import replaced_by

        try:
            plan = session.desk.plan_file(session.planned.asked, session.detail)
        except AdvisorError as error:
            self._say_problem(error, "e saves another one.")
            return
        there = replaced_by(plan, Path(path).expanduser())
        if there is None:
            self._write(plan, path)
            return

        def take(answer: str | None) -> None:
            if answer == _REPLACE:
                self._write(plan, path)
            else:
                self.say(f"{path} is as it was. e saves under another name.")

        self.app.push_screen(AskScreen("Save the plan", [f"{path} is there already: {there}."], (_LEAVE, _REPLACE)), take)

    def _write(self, plan: "PlanFile", path: str) -> None:
        from advisor.planfile.store import save_plan

        try:
            written = save_plan(plan, Path(path).expanduser())
        except AdvisorError as error:
            self._say_problem(error, "e saves under another name.")
            return
        self._saved_in = Path(path).expanduser().parent
        self.say(f"saved {path}" if written else f"{path} already says this; left as it is")

    def action_open(self) -> None:
        """Ask again what a plan file answers: one of those that are here, or any by its path."""
        hint = "Enter takes the file's question: model, machine and limits. Esc goes back."
        screen = PickScreen("Open a plan", Choices(), typed="open {text}", empty="a path, or a part of a name", hint=hint)
        self.app.push_screen(screen, self._open)
        self._look_for_plans(screen)

    @work(thread=True, exclusive=True, group="files", exit_on_error=False)
    def _look_for_plans(self, screen: PickScreen) -> None:
        self.app.call_from_thread(screen.fill, plan_files((Path(), self._saved_in)))

    def _open(self, path: str | None) -> None:
        if path is None:
            return
        from advisor.tui.form.from_plan import asked_of_file

        try:
            asked = asked_of_file(Path(path).expanduser())
        except AdvisorError as error:
            self._say_problem(error, "o opens another; the question is as it was.")
        else:
            self.take_question(asked, f"Opened {path} (u takes it back).")

    def _say_problem(self, error: AdvisorError, then: str) -> None:
        self.say(f"{problem_of(error).sentences()}. {then}")
