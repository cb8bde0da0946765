"""What can be done about one technique: force it in or out, or make one of the changes that would let it in, as they are found."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.worker import get_current_worker

from advisor.profiles.errors import AdvisorError
from advisor.tui.contract import TellsFaults, session_of
from advisor.tui.form.values import Force, FormValues
from advisor.tui.keys import MODAL_KEYS

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.sensitivity.findings import Finding
    from advisor.tui.workers.planning_client import Planned

FORCES = {
    Force.REQUIRED: "Force it in: only plans with it",
    Force.FORBIDDEN: "Force it out: no plan with it",
    Force.FREE: "Leave it free: where it earns its place",
}
HINT = "Enter makes the change, u takes it back, Esc goes back."
WORKING = "working out what would let it in ..."


@dataclass(frozen=True, slots=True)
class Taken:
    """The question after what was taken, and what that is, in words."""

    asked: FormValues
    words: str


class TechniqueScreen(TellsFaults, ModalScreen[Taken]):
    """A list of changes that grows; gives back the question after the one that is taken."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS]

    def __init__(self, technique: str, planned: "Planned", advice: "Advice") -> None:
        super().__init__()
        self._technique = technique
        self._planned = planned
        self._advice = advice
        self._choices: list[Taken] = []

    def compose(self) -> ComposeResult:
        """Why it is in or out, and below it the list."""
        with Vertical(classes="box technique") as box:
            box.border_title = self._technique
            yield Static(id="reason", markup=False)
            yield OptionList(compact=True)
            yield Static("", id="working", classes="hint", markup=False)
            yield Static(HINT, classes="hint", markup=False)

    def on_mount(self) -> None:
        """What can be done at once; then what is found out."""
        from advisor.planning.advice import TechniqueState
        from advisor.rendering.text.advice import reason_words

        reason = next(reason for reason in self._advice.reasons if reason.technique == self._technique)
        self.query_one("#reason", Static).update(session_of(self).ascii_only(reason_words(replace(reason, would_need=()))))
        asked, name = self._planned.asked, self._technique
        for force, words in FORCES.items():
            if force is not asked.constraint_of(name):
                self._offer(Taken(asked.with_constraint(name, force), words))
        lines = self.query_one(OptionList)
        lines.highlighted = 0
        lines.focus()
        if reason.state is not TechniqueState.CHOSEN:
            self.query_one("#working", Static).update(WORKING)
            self._find_out()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Give it back."""
        self.dismiss(self._choices[event.option_index])

    @work(thread=True, exclusive=True, group="technique", exit_on_error=False)
    def _find_out(self) -> None:
        worker, end = get_current_worker(), ""
        try:
            for finding in session_of(self).desk.findings(self._planned, self._advice, [self._technique], lambda: worker.is_cancelled):
                if worker.is_cancelled:
                    return
                end = self.app.call_from_thread(self._found, finding)
        except AdvisorError as error:
            end = error.message
        finally:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._end, end)

    def _found(self, finding: "Finding") -> str:
        """Offer a change that was found; what to say if nothing follows it."""
        from advisor.rendering.text.why import NO_CHANGE_HELPS, change_words
        from advisor.sensitivity.counterfactual import Change, ChangeKind
        from advisor.tui.form.suggestions import with_change

        if not isinstance(finding.found, Change):
            forces = len(FORCES) - 1
            return "" if len(self._choices) > forces else NO_CHANGE_HELPS
        if finding.found.kind not in (ChangeKind.ALLOW, ChangeKind.REQUIRE):  # these two stand at the top already
            asked = with_change(self._planned.asked, self._technique, finding.found)
            self._offer(Taken(asked, change_words(finding.found, flags=False)))
        return ""

    def _offer(self, taken: Taken) -> None:
        self._choices.append(taken)
        self.query_one(OptionList).add_option(Text(session_of(self).ascii_only(taken.words)))

    def _end(self, sentence: str) -> None:
        self.query_one("#working", Static).update(session_of(self).ascii_only(sentence))
