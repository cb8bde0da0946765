"""Changes of the question by keys of the Plan screen: undo, machine, techniques, relaxations."""

from typing import TYPE_CHECKING

from advisor.tui.form.choices import machines
from advisor.tui.form.values import Constraint, FormValues
from advisor.tui.screens.modals import ListScreen, PickScreen
from advisor.tui.screens.plan_view import PlanView

if TYPE_CHECKING:
    from advisor.tui.workers.planning_client import Planned

CONSTRAINT_WORDS = {Constraint.FREE: "free", Constraint.REQUIRED: "required", Constraint.FORBIDDEN: "forbidden"}


class QuestionActions:
    """Replaces the question, and shows the new one in the form."""

    def __init__(self, view: PlanView) -> None:
        self._view = view
        self._ui = view.ui

    @property
    def values(self) -> FormValues:
        """The present question."""
        return self._ui.store.state.values

    def change(self, values: FormValues, note: str = "") -> None:
        """Ask another question; `note` precedes the answer in the message line."""
        self._view.note = note
        self._ui.planning.ask(values)
        self._view.show_values(values)

    def undo(self) -> None:
        """Undo the last change."""
        self._view.note = ""
        self._ui.planning.travel(self._ui.store.state.history.undone())
        self._view.show_values(self.values)

    def redo(self) -> None:
        """Redo the change that was undone."""
        self._view.note = ""
        self._ui.planning.travel(self._ui.store.state.history.redone())
        self._view.show_values(self.values)

    def clear(self) -> None:
        """Empty the question."""
        self._view.note = "Everything is cleared (u undoes this)."
        self._ui.planning.clear()
        self._view.show_values(self.values)
        self._view.show_plans()
        self._view.show_problem()

    def name_machine(self) -> None:
        """Replace a name in the field of the machine by the id that it stands for: `4090` by `rtx-4090`; say where it fits others too."""
        from advisor.profiles.hardware import hardware_id, meaning_note  # loaded with the planner

        text = self.values.text("hardware")
        if text and (id := hardware_id(text)) != text:
            note = meaning_note(text)
            self.change(self.values.with_text("hardware", id), f"{note}." if note else "")

    def choose_machine(self) -> None:
        """Choose this machine, a stored profile, a machine of the catalogue by any name, or a data sheet."""
        machine = self._ui.planning.this_machine
        hint = "Enter takes the marked line, Esc goes back. The path of a data sheet (.yaml) is taken too."
        screen = PickScreen("Machine", machines(machine.label if machine else ""), other="plan for {text}", hint=hint)
        self._ui.open_screen(screen, self._take_machine)

    def choose_constraint(self) -> None:
        """Require or forbid a technique of the list, or remove its constraint."""
        from advisor.backends.techniques import TECHNIQUES  # loaded with the planner

        names = [technique.name for technique in TECHNIQUES]
        lines = [f"{name:<28}{CONSTRAINT_WORDS[self.values.constraint_of(name)]}" for name in names]
        hint = "Enter requires or forbids it; again frees it. Esc goes back."

        def take(picked: str | None) -> None:
            if picked is not None:
                self.next_constraint(names[int(picked)])

        self._ui.open_screen(ListScreen("What if: techniques", lines, hint), take)

    def next_constraint(self, technique: str) -> None:
        """Require a technique, or forbid one that the selected plan has; remove the constraint of one that has any."""
        planning = self._ui.planning
        plans = planning.planned.alternatives if planning.planned is not None else ()
        chosen = any(plan.id == planning.selected and technique in plan.candidate.names for plan in plans)
        constraint = Constraint.FORBIDDEN if chosen else Constraint.REQUIRED
        if self.values.constraint_of(technique) is not Constraint.FREE:
            constraint = Constraint.FREE
        again = " again" if constraint is Constraint.FREE else ""
        words = f"{technique} is {CONSTRAINT_WORDS[constraint]}{again} (u undoes this)."
        self.change(self.values.with_constraint(technique, constraint), words)

    def choose_relaxation(self) -> None:
        """Choose one of the smallest changes of a limit with which a plan is feasible."""
        from advisor.rendering.text.advice import relaxation_words

        planned = self._ui.planning.planned
        if planned is None or not planned.advice.relaxations:
            self._view.say(_nothing_to_relax(planned))
            return
        items = planned.advice.relaxations
        lines = [relaxation_words(item, planned.advice.request.limits) for item in items]
        hint = "Enter makes the change, to the likelier limit; u undoes it, Esc goes back."

        def take(picked: str | None) -> None:
            from advisor.tui.form.suggestions import with_relaxation

            if picked is not None:
                self.change(with_relaxation(self.values, items[int(picked)]))

        self._ui.open_screen(ListScreen("To get a plan, change one of these", lines, hint), take)

    def _take_machine(self, picked: str | None) -> None:
        if picked is None:
            return
        profile = picked.removeprefix("profile:") if picked.startswith("profile:") else ""
        self.change(self.values.with_text("hardware", "" if profile else picked).with_text("profile", profile))


def _nothing_to_relax(planned: "Planned | None") -> str:
    if planned is not None and not planned.final:
        return "Relaxations are still being computed; press r again in a moment."
    meets = planned is not None and planned.advice.binding is None
    return "Nothing to relax: a plan meets every limit." if meets else "Nothing to relax."
