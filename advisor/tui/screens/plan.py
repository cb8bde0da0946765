"""The Plan screen: its keys and the messages of its panels, and what each of them does."""

from typing import ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from advisor.tui.contract import Interface
from advisor.tui.keys import PLAN_KEYS
from advisor.tui.panels.field_row import FieldRow
from advisor.tui.panels.plans import PlansPanel
from advisor.tui.panels.plot import frontier_step
from advisor.tui.panels.why import WhyPanel
from advisor.tui.screens.plan_files import FileActions
from advisor.tui.screens.plan_question import QuestionActions
from advisor.tui.screens.plan_reasons import ReasonActions
from advisor.tui.screens.plan_table import TableActions
from advisor.tui.screens.plan_view import PlanView
from advisor.tui.status_text import restored_line

_RESTORED_WIDTH = 76
"""Columns of the note about the last session: the message line has the answer too."""


class PlanScreen(PlanView):
    """Follows the planning controller; every key goes to one of its groups of actions."""

    BINDINGS: ClassVar[list[BindingType]] = [*PLAN_KEYS]

    def __init__(self, ui: Interface) -> None:
        super().__init__(ui)
        self._question = QuestionActions(self)
        self._files = FileActions(self, self._question)
        self._reasons = ReasonActions(self, self._question)
        self._table = TableActions(self)

    def on_mount(self) -> None:
        """Follow the controllers."""
        planning = self.ui.planning
        planning.plans_changed.subscribe(self, self.change_plans)
        planning.detail_changed.subscribe(self, self.change_detail)
        planning.problem_changed.subscribe(self, self.show_problem)
        planning.status_changed.subscribe(self, self.change_status)
        self.ui.jobs.chip_changed.subscribe(self, self.show_header)
        self.watch(self.app, "theme", self.redraw, init=False)
        self.change_plans()
        self.show_values(self.ui.store.state.values)
        self._open_first()
        self.note = restored_line(self.ui.store.restored, _RESTORED_WIDTH)
        self.show_problem()

    def _open_first(self) -> None:
        """Begin in the field that comes next, as for a new question, or else in the table, where digits are keys."""
        values = self.ui.store.state.values
        if not values.text("model"):
            self.open_field("model")
        elif self.ui.settings.resume or values.text("hardware") or values.text("profile"):
            self.open_panel("plans")
        else:
            self.open_field("hardware")

    def on_screen_resume(self) -> None:
        """Show the question: it may have been changed on another screen."""
        self.show_values(self.ui.store.state.values)

    def change_status(self) -> None:
        """Show whether it is planning."""
        self.show_header()
        self.show_blanks()

    def change_plans(self) -> None:
        """Show another answer, and compute its findings."""
        self._reasons.restart()
        self.show_plans()

    def change_detail(self) -> None:
        """Show another plan or its reasons, and compute its findings."""
        self._reasons.restart()
        self.show_detail()

    def on_field_row_changed(self, event: FieldRow.Changed) -> None:
        """Plan for the text of a field."""
        if event.text.strip() != self.ui.store.state.values.text(event.field):  # else a change of the question that the form shows
            self.note = ""
        self.ui.planning.type_into(event.field, event.text)
        self.show_problem()

    def on_field_row_entered(self, event: FieldRow.Entered) -> None:
        """End a step of undo and pass the focus on. A model that is not found is looked for on the network; a machine gets its id."""
        self.ui.planning.end_step()
        if event.field == "model":
            self.ui.planning.fetch_model()
        elif event.field == "hardware":
            self._question.name_machine()
        self.focus_next()

    def on_plans_panel_selected(self, event: PlansPanel.Selected) -> None:
        """Select the plan under the cursor."""
        self.ui.planning.select(event.plan)
        self.show_detail()

    def on_why_panel_entered(self, event: WhyPanel.Entered) -> None:
        """Compute findings while the reasons have the focus."""
        self._reasons.restart()
        self.show_why()

    def on_why_panel_taken(self, event: WhyPanel.Taken) -> None:
        """Open the changes for a technique, or move a limit."""
        self._reasons.take(event.topic)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the key that leaves a field only in a field."""
        if action == "leave":
            return isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    def on_descendant_focus(self) -> None:
        """Show the keys of the focused panel in the footer."""
        self.refresh_bindings()

    def on_descendant_blur(self) -> None:
        """End a step of undo."""
        self.ui.planning.end_step()

    def action_panel(self, name: str) -> None:
        """Go to a panel."""
        self.open_panel(name)

    def action_leave(self) -> None:
        """Leave the focused field."""
        self.limits.focus()

    def action_clear(self) -> None:
        """Clear the question, and begin with its model."""
        self._question.clear()
        self.open_field("model")

    def action_start(self) -> None:
        """Choose another model."""
        self.ui.go_to("start")

    def action_step(self, step: int) -> None:
        """Select the next plan of the frontier by TPOT."""
        planning = self.ui.planning
        if planning.planned is not None and planning.selected is not None:
            following = frontier_step(planning.planned.alternatives, planning.selected, step)
            if following is not None:
                planning.select(following)
                self.show_detail()

    def action_force(self) -> None:
        """Require or forbid the technique under the cursor of Why, else one of a list."""
        if self.why.has_focus and self.why.technique is not None:
            self._question.next_constraint(self.why.technique)
        else:
            self._question.choose_constraint()

    def action_undo(self) -> None:
        """Undo the last change of the question."""
        self._question.undo()

    def action_redo(self) -> None:
        """Redo what was undone."""
        self._question.redo()

    def action_machine(self) -> None:
        """Choose the machine to plan for."""
        self._question.choose_machine()

    def action_relax(self) -> None:
        """Choose a limit to relax."""
        self._question.choose_relaxation()

    def action_save(self) -> None:
        """Save the selected plan."""
        self._files.save()

    def action_open(self) -> None:
        """Open a plan file."""
        self._files.open()

    def action_sort(self) -> None:
        """Sort by the next metric."""
        self._table.sort()

    def action_filter(self) -> None:
        """Show the frontier, all feasible plans, or all plans."""
        self._table.filter()

    def action_mark(self) -> None:
        """Mark the selected plan."""
        self._table.mark()

    def action_compare(self) -> None:
        """Compare two plans, or a run with its prediction."""
        self._table.compare()

    def action_find(self) -> None:
        """Find a plan or a reason."""
        self._table.find()
