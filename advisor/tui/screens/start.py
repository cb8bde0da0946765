"""The first screen: the choice of a model, while the machine is being detected."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Footer, Static

from advisor.tui.contract import AdvisorScreen
from advisor.tui.form.choices import Choices, models
from advisor.tui.keys import START_KEYS
from advisor.tui.panels.picker import Picker
from advisor.tui.status_text import header, restored_line

WELCOME = "Which model do you want to run? Type a part of its name, a Hugging Face id or a folder; Enter takes the marked line."


class StartScreen(AdvisorScreen[None]):
    """Choose a model; the last one is the first line."""

    BINDINGS: ClassVar[list[BindingType]] = [*START_KEYS]

    def compose(self) -> ComposeResult:
        """Header, a sentence, the list, and the keys."""
        yield Static("", id="header", markup=False)
        yield Static(WELCOME, id="welcome", markup=False)
        yield Static("", id="restored", markup=False)
        yield Picker(Choices(), other="use {text}")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Follow the detection of the machine and the work in the background."""
        self.ui.planning.status_changed.subscribe(self, self._show_header)
        self.ui.jobs.chip_changed.subscribe(self, self._show_header)
        self._show_header()

    def on_screen_resume(self) -> None:
        """Empty the text and list the last model first."""
        self.query_one(Picker).clear()
        self._show_restored()
        self.call_after_refresh(self._fill)

    def on_resize(self) -> None:
        """Fit the line about the last session to the width."""
        self._show_restored()

    def _fill(self) -> None:
        self.query_one(Picker).fill(models(self.ui.store.state.values.text("model")))

    def _show_restored(self) -> None:
        line = restored_line(self.ui.store.restored, self.size.width - 2)
        self.query_one("#restored", Static).update(self.ui.ascii_only(line))
        self.set_class(bool(line), "-restored")

    def _show_header(self) -> None:
        model = self.ui.store.state.values.text("model")
        line = header(None, self.ui.planning.this_machine, model, busy=False, chip=self.ui.jobs.chip)
        self.query_one("#header", Static).update(self.ui.ascii_only(line))

    def on_picker_picked(self, event: Picker.Picked) -> None:
        """Plan for the model."""
        event.stop()
        self.ui.planning.ask(self.ui.store.state.values.with_text("model", event.value))
        self.ui.go_to("plan")

    def action_clear(self) -> None:
        """Clear the question."""
        self.ui.planning.clear()
        self._show_restored()
        self._show_header()
        self._fill()

    def action_plan(self) -> None:
        """Go to the plan without choosing a model."""
        self.ui.go_to("plan")
