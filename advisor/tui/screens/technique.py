"""Changes for one technique: require it, forbid it, or make one of the changes with which it is admitted, as they are found."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.worker import get_current_worker

from advisor.profiles.errors import AdvisorError
from advisor.tui.contract import AdvisorModal, Interface
from advisor.tui.form.values import Constraint, FormValues
from advisor.tui.keys import MODAL_KEYS

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.sensitivity.findings import Finding
    from advisor.tui.workers.planning_client import Planned

CONSTRAINTS = {
    Constraint.REQUIRED: "Require it: only plans with it",
    Constraint.FORBIDDEN: "Forbid it: no plan with it",
    Constraint.FREE: "Leave it free: only where it helps",
}
HINT = "Enter makes the change, u undoes it, Esc goes back."
WORKING = "computing what would admit it ..."


@dataclass(frozen=True, slots=True)
class ChangedQuestion:
    """A question, and in words the change that leads to it."""

    values: FormValues
    words: str


class TechniqueScreen(AdvisorModal[ChangedQuestion]):
    """A growing list of changes; returns the one that is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS]

    def __init__(self, ui: Interface, technique: str, planned: "Planned", advice: "Advice") -> None:
        super().__init__(ui)
        self._technique = technique
        self._planned = planned
        self._advice = advice
        self._changes: list[ChangedQuestion] = []

    def compose(self) -> ComposeResult:
        """Why it is chosen or rejected, and below it the list."""
        with Vertical(classes="box technique") as box:
            box.border_title = self._technique
            yield Static(id="reason", markup=False)
            yield OptionList(compact=True)
            yield Static("", id="working", classes="hint", markup=False)
            yield Static(HINT, classes="hint", markup=False)

    def on_mount(self) -> None:
        """List the constraints, then the changes that are found."""
        from advisor.planning.advice import TechniqueState
        from advisor.rendering.text.advice import reason_words

        reason = next(reason for reason in self._advice.reasons if reason.technique == self._technique)
        self.query_one("#reason", Static).update(self.ui.ascii_only(reason_words(replace(reason, would_need=()))))
        values, name = self._planned.values, self._technique
        for constraint, words in CONSTRAINTS.items():
            if constraint is not values.constraint_of(name):
                self._add(ChangedQuestion(values.with_constraint(name, constraint), words))
        lines = self.query_one(OptionList)
        lines.highlighted = 0
        lines.focus()
        if reason.state is not TechniqueState.CHOSEN:
            self.query_one("#working", Static).update(WORKING)
            self._find_changes()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Return the change."""
        self.dismiss(self._changes[event.option_index])

    @work(thread=True, exclusive=True, group="technique", exit_on_error=False)
    def _find_changes(self) -> None:
        worker, end = get_current_worker(), ""
        client = self.ui.planning.client
        try:
            for finding in client.findings(self._planned, self._advice, [self._technique], lambda: worker.is_cancelled):
                if worker.is_cancelled:
                    return
                end = self.app.call_from_thread(self._add_finding, finding)
        except AdvisorError as error:
            end = error.message
        finally:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._end, end)

    def _add_finding(self, finding: "Finding") -> str:
        """List a change that was found; returns the sentence to show if it is the last one."""
        from advisor.rendering.text.why import NO_CHANGE_HELPS, change_words
        from advisor.sensitivity import counterfactual
        from advisor.tui.form.suggestions import with_change

        if not isinstance(finding.result, counterfactual.Change):
            constraints = len(CONSTRAINTS) - 1
            return "" if len(self._changes) > constraints else NO_CHANGE_HELPS
        listed = (counterfactual.ChangeKind.ALLOW, counterfactual.ChangeKind.REQUIRE)  # the constraints at the top
        if finding.result.kind not in listed:
            values = with_change(self._planned.values, self._technique, finding.result)
            self._add(ChangedQuestion(values, change_words(finding.result, flags=False)))
        return ""

    def _add(self, change: ChangedQuestion) -> None:
        self._changes.append(change)
        self.query_one(OptionList).add_option(Text(self.ui.ascii_only(change.words)))

    def _end(self, sentence: str) -> None:
        self.query_one("#working", Static).update(self.ui.ascii_only(sentence))
