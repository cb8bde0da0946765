"""The first screen: which model, while the machine is being looked at."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static

from advisor.tui.contract import session_of
from advisor.tui.form.choices import Choices, models
from advisor.tui.keys import START_KEYS
from advisor.tui.panels.picker import Picker
from advisor.tui.status_text import header

WELCOME = "Which model do you want to run? Type a part of its name, a Hugging Face id or a folder; Enter takes the marked line."


class StartScreen(Screen[None]):
    """Choose a model; the last one stands first."""

    BINDINGS: ClassVar[list[BindingType]] = [*START_KEYS]

    def compose(self) -> ComposeResult:
        """Header, a sentence, the list, and the keys."""
        yield Static("", id="header", markup=False)
        yield Static(WELCOME, id="welcome", markup=False)
        yield Picker(Choices(), typed="use {text}")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Follow what is found out about the machine."""
        session = session_of(self)
        self.watch(session, "here", self._show_header)
        self.watch(session, "chip", self._show_header)

    def on_screen_resume(self) -> None:
        """Ready to type another name; the last model stands first."""
        self.query_one(Picker).begin_anew()
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        self.query_one(Picker).fill(models(session_of(self).state.asked.text("model")))

    def _show_header(self) -> None:
        session = session_of(self)
        line = header(None, session.here, session.state.asked.text("model"), busy=False, chip=session.chip)
        self.query_one("#header", Static).update(session.ascii_only(line))

    def on_picker_picked(self, event: Picker.Picked) -> None:
        """Plan for the model."""
        event.stop()
        session = session_of(self)
        session.ask(session.state.asked.with_text("model", event.value))
        session.switch_mode("plan")

    def action_plan(self) -> None:
        """Go on without choosing."""
        session_of(self).switch_mode("plan")
