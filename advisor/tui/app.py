"""The session's app: holds the state, and tells the screens through what they watch."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.events import Event, Key
from textual.timer import Timer

from advisor.profiles.errors import AdvisorError
from advisor.tui import gc_control as garbage
from advisor.tui.app_jobs import Jobs
from advisor.tui.app_planning import Planning
from advisor.tui.commands import Commands
from advisor.tui.form.fields import BY_NAME
from advisor.tui.form.history import History
from advisor.tui.form.saved_state import SessionState, save_session, with_mark
from advisor.tui.form.values import FormValues
from advisor.tui.key_queue import KeyQueue
from advisor.tui.keys import APP_KEYS
from advisor.tui.screens import MODES
from advisor.tui.status_text import Problem
from advisor.tui.workers.planning_client import PlanningClient

if TYPE_CHECKING:
    from advisor.rendering.text.style import Look

PAUSE_S = 0.2
"""How long typing must rest before stacks are priced anew; a limit, which only ranks them, waits for nothing."""
SAVED_AFTER_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """How a session is drawn and where it is kept."""

    ascii: bool = False
    no_colour: bool = False
    light: bool = False
    file: Path | None = None
    """Where the session is saved; `None`: nowhere."""
    resume: bool = False
    """Whether to begin with the plan instead of the choice of a model."""
    notice: str = ""
    """Something to say when the first screen is there."""


class SessionApp(KeyQueue, Commands, Planning, Jobs, App[None]):
    """Start and Plan screens over one question."""

    TITLE = "advisor"
    CSS_PATH = "app.tcss"
    MODES = MODES
    BINDINGS: ClassVar[list[BindingType]] = [*APP_KEYS]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - an instance variable by Textual's declaration
        (0, "-tiny"),
        (60, "-narrow"),
        (100, "-normal"),
        (170, "-wide"),
    ]

    def __init__(self, desk: PlanningClient, state: SessionState, setting: AppSettings) -> None:
        super().__init__(ansi_color=setting.no_colour)
        self.desk = desk
        self.state = state
        self.setting = setting
        self._joined: str | None = None
        self._unsaved = False
        self._saving: Timer | None = None

    def on_mount(self) -> None:
        """Show the first screen, and look at the machine meanwhile."""
        self._thresholds = garbage.hold_back()
        if not self.setting.no_colour:
            self.use_theme("light" if self.setting.light else "dark")
        self.set_class(self.setting.ascii, "-ascii")
        self.switch_mode("plan" if self.setting.resume else "start")
        if self.setting.notice:
            self.notify(self.setting.notice, severity="warning", markup=False)
        self._look_here()
        if self.state.asked.text("model"):
            self.plan_soon(0)

    @property
    def palette(self) -> str:
        """The colours of texts: `dark`, `light` or `none`."""
        if self.setting.no_colour:
            return "none"
        return "light" if not self.current_theme.dark else "dark"

    def look(self, width: int) -> "Look":
        """How views draw into so many columns."""
        from advisor.rendering.text.style import Look  # views load the planner's types, which the first frame does not wait for

        return Look(width, colour=True, ascii=self.setting.ascii)

    def ascii_only(self, line: str) -> str:
        """A line as it may be shown: no signs beyond ASCII where none are wanted."""
        if not self.setting.ascii:
            return line
        return self.look(max(len(line), 1)).finish([line]).rstrip("\n")

    def titled(self, line: str) -> str:
        """A line as the title of a box: brackets in it are text, never markup."""
        return self.ascii_only(line).replace("[", "\\[")

    def say(self, field: str, text: str) -> None:
        """A person typed into a field: one step of undo for as long as it is the same field."""
        self.ask(self.state.asked.with_text(field, text), join=field)

    def ask(self, asked: FormValues, *, join: str | None = None) -> None:
        """Change the question and plan again; what cannot be read leaves the last plan on the screen."""
        history = self.state.history.changed(asked, join=join is not None and join == self._joined)
        if history is self.state.history:
            return
        self._joined = join
        self.take(history)
        field = BY_NAME.get(join or "")
        self.plan_soon(0 if field is not None and field.ranks_only else PAUSE_S)

    def take(self, history: History) -> None:
        """Put the question of this history in place of the present one."""
        if any(history.present.text(name) != self.state.asked.text(name) for name in ("model", "hardware", "profile")):
            self.state = replace(self.state, selected=None, marked=())  # they were plans of another model, or for another machine
        self.keep(replace(self.state, history=history))
        errors = self.state.asked.errors()
        self.problem = Problem(next(iter(errors.values())), next(iter(errors))) if errors else None

    def keep(self, state: SessionState) -> None:
        """Remember a state, and save it a moment later."""
        self.state = state
        if self.setting.file is not None:
            if self._saving is not None:
                self._saving.stop()
            self._saving = self.set_timer(SAVED_AFTER_S, self.save)

    def save(self) -> None:
        """Save the session now."""
        if self.setting.file is not None:
            try:
                save_session(self.state, self.setting.file)
            except AdvisorError as error:
                if not self._unsaved:  # once is enough: it is saved after each change
                    self.notify(f"this session is not kept: {error.message}", severity="warning", markup=False)
                self._unsaved = True

    async def on_event(self, event: Event) -> None:
        """The frame after a key goes before what is worked out meanwhile."""
        if isinstance(event, Key):
            self.desk.be_quiet()
            self.put_off_tidying()
        await super().on_event(event)

    def on_unmount(self) -> None:
        """Nothing that was typed is lost."""
        garbage.let_go(self._thresholds)
        if self.setting.file is not None:
            with contextlib.suppress(AdvisorError):
                save_session(self.state, self.setting.file)

    def travel(self, history: History) -> None:
        """Undo or redo: another question as a whole."""
        if history is not self.state.history:
            self._joined = None
            self.take(history)
            self.plan_soon(0)

    def end_step(self) -> None:
        """The next change is a step of undo of its own."""
        self._joined = None

    def mark(self, plan: str) -> None:
        """Mark a plan for comparison, or take its mark away."""
        self.keep(replace(self.state, marked=with_mark(self.state.marked, plan)))
