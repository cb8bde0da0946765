"""Plan files of the Plan screen: saved and opened."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.profiles.errors import AdvisorError
from advisor.profiles.files import expanded
from advisor.tui.form.choices import Choices, plan_files
from advisor.tui.form.problem import problem_of
from advisor.tui.screens.asking import AskScreen
from advisor.tui.screens.modals import PathScreen, PickScreen
from advisor.tui.screens.plan_question import QuestionActions
from advisor.tui.screens.plan_view import PlanView

if TYPE_CHECKING:
    from advisor.planfile.file import PlanFile

_LEAVE, _REPLACE = "Leave it as it is", "Replace it by this plan"


class FileActions:
    """What the keys `e` and `o` do."""

    def __init__(self, view: PlanView, question: QuestionActions) -> None:
        self._view = view
        self._ui = view.ui
        self._question = question
        self._last_folder = Path()

    def save(self) -> None:
        """Ask for a file name and save the selected plan, as `advisor plan -o` does."""
        if self._ui.planning.detail is None:
            self._view.say("No plan to save yet.")
            return
        hint = "Enter saves; advisor apply runs the file. Esc goes back."
        self._ui.open_screen(PathScreen("Save the plan", "plan.yaml", hint), self._save)

    def open(self) -> None:
        """Ask the question of a plan file: one of the list, or any by its path."""
        hint = "Enter asks the file's question: model, machine and limits. Esc goes back."
        screen = PickScreen("Open a plan", Choices(), other="open {text}", placeholder="a path, or a part of a name", hint=hint)
        self._ui.open_screen(screen, self._open)
        work = partial(self._list_files, screen)
        self._view.run_worker(work, thread=True, exclusive=True, group="files", exit_on_error=False)

    def _save(self, path: str | None) -> None:
        planning = self._ui.planning
        if path is None or planning.detail is None or planning.planned is None:
            return
        from advisor.planfile.store import replaced_by

        try:
            plan = planning.client.plan_file(planning.planned.values, planning.detail)
        except AdvisorError as error:
            self._say_problem(error, "e saves another one.")
            return
        existing = replaced_by(plan, expanded(path))
        if existing is None:
            self._write(plan, path)
            return

        def take(answer: str | None) -> None:
            if answer == _REPLACE:
                self._write(plan, path)
            else:
                self._view.say(f"{path} is unchanged. e saves under another name.")

        self._ui.open_screen(AskScreen(self._ui, "Save the plan", [f"{path} exists: {existing}."], (_LEAVE, _REPLACE)), take)

    def _write(self, plan: "PlanFile", path: str) -> None:
        from advisor.planfile.store import save_plan

        try:
            written = save_plan(plan, expanded(path))
        except AdvisorError as error:
            self._say_problem(error, "e saves under another name.")
            return
        self._last_folder = expanded(path).parent
        self._view.say(f"saved {path}" if written else f"{path} has this plan already; unchanged")

    def _list_files(self, screen: PickScreen) -> None:
        self._view.app.call_from_thread(screen.fill, plan_files((Path(), self._last_folder)))

    def _open(self, path: str | None) -> None:
        if path is None:
            return
        from advisor.tui.form.from_plan import values_of_file

        try:
            values = values_of_file(expanded(path))
        except AdvisorError as error:
            self._say_problem(error, "o opens another; the question is unchanged.")
        else:
            self._question.change(values, f"Opened {path} (u undoes this).")

    def _say_problem(self, error: AdvisorError, then: str) -> None:
        self._view.say(f"{problem_of(error).sentences()}. {then}")
