"""The Plan screen: Limits, Plans, Memory, Why and Plot over one question; side by side, or one at a time where it is narrow."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Input, Static

from advisor.tui.contract import session_of
from advisor.tui.keys import PLAN_KEYS
from advisor.tui.panels.field_row import FieldRow
from advisor.tui.panels.limits import LimitsPanel
from advisor.tui.panels.memory import MemoryPanel
from advisor.tui.panels.plans import PlansPanel, Rows, filtered
from advisor.tui.panels.plot import PlotPanel, frontier_step
from advisor.tui.panels.why import WhyPanel
from advisor.tui.screens.plan_files import PlanFiles
from advisor.tui.screens.plan_reasons import PlanReasons
from advisor.tui.status_text import counts_line, effective_values, header, summary_line, unreadable_line

NO_MODEL = [
    "No model yet. Type a Hugging Face id or a folder in Model, or press 0 for a list.",
    "",
    "m plans for a machine that you do not have.",
]
_RANGES_FROM = 170
_BARE = 80
"""Columns for which the table is without ranges and ids."""


class PlanScreen(PlanReasons, PlanFiles, Screen[None]):
    """Shows what the app knows; what a person does goes to the app."""

    BINDINGS: ClassVar[list[BindingType]] = [*PLAN_KEYS]

    def compose(self) -> ComposeResult:
        """Header, form beside the four other panels, message, keys."""
        yield Static("", id="header", markup=False)
        yield Static("This needs 60 columns and 16 rows.", id="too-small", markup=False)
        with Horizontal(id="body"):
            yield LimitsPanel(session_of(self).state.asked)
            with Vertical(id="answers"):
                yield PlansPanel()
                yield MemoryPanel()
                with Container(id="below"):
                    yield PlotPanel()
                    yield WhyPanel()
        yield Static("", id="message", markup=False)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Follow the app."""
        session = session_of(self)
        for name, show in {
            "planned": self.change_plans,
            "detail": self.change_detail,
            "problem": self.show_problem,
            "busy": self.show_header,
            "here": self.show_header,
            "chip": self.show_header,
        }.items():
            self.watch(session, name, show)
        self.watch(session, "theme", self.redraw, init=False)
        self.query_one(LimitsPanel).show(session.state.asked)
        self.open_panel("limits" if session.planned is None else "plans")

    def on_resize(self, event: Resize) -> None:
        """Columns and drawings follow the width once the panels have theirs."""
        self.call_after_refresh(self.redraw)

    def on_screen_resume(self) -> None:
        """The question may have been changed on another screen."""
        self.query_one(LimitsPanel).show(session_of(self).state.asked)

    def redraw(self) -> None:
        """Draw everything anew."""
        self.show_header()
        self.show_plans()

    def show_header(self) -> None:
        """Model, machine, and what goes on."""
        session = session_of(self)
        model = session.state.asked.text("model")
        line = header(session.planned, session.here, model, busy=session.busy, chip=session.chip, width=self.size.width)
        self.query_one("#header", Static).update(session.ascii_only(line), layout=False)

    def change_plans(self) -> None:
        """Another answer is shown: what was being worked out about the last one is of no use."""
        self.read_on()
        self.show_plans()

    def show_plans(self) -> None:
        """The table, and all that follows the selected plan."""
        session = session_of(self)
        self.show_header()
        table, planned, plan = self.query_one(PlansPanel), session.planned, session.selected
        if planned is None or plan is None:
            self.query_one(WhyPanel).say(NO_MODEL if not session.state.asked.text("model") else [])
            return
        state = session.state
        shown = filtered(planned.spots, state.filter, state.sort)
        if plan not in {spot.id for spot in shown}:
            shown += [spot for spot in planned.spots if spot.id == plan]
        self.query_one(LimitsPanel).show_meant(effective_values(planned))
        look = session.look(self.size.width if self.size.width >= _RANGES_FROM else _BARE)
        table.fill(Rows(spots=shown, selected=plan, marked=state.marked, look=look, palette=session.palette))
        by = "" if state.sort == "rank" else f", by {state.sort}"
        lets_through = state.filter if planned.advice.binding is None else "all"
        table.border_title = session.titled(f"2 Plans  {counts_line(planned)}  [{lets_through}{by}]")
        self.show_detail()
        self.show_problem()

    def change_detail(self) -> None:
        """Another plan is shown, or its reasons are known now."""
        self.read_on()
        self.show_detail()

    def show_detail(self) -> None:
        """Memory, reasons and the place in the plot of the selected plan."""
        session = session_of(self)
        planned, plan = session.planned, session.selected
        if planned is None or plan is None:
            return
        self.query_one(PlansPanel).move_to(plan)
        limits, palette = planned.advice.request.limits, session.palette
        if session.detail is not None:
            self.query_one(MemoryPanel).show(session.detail, planned.budget_gib, session.look, palette)
        self.show_why()
        self.query_one(PlotPanel).show(planned.spots, plan, limits, session.look, palette)

    def show_why(self) -> None:
        """Reasons of the selected plan, as far as they are known."""
        session, why = session_of(self), self.query_one(WhyPanel)
        planned, plan = session.planned, session.selected
        if planned is None or plan is None:
            return
        if session.detail is not None:
            why.show(self.known(planned, session.detail), session.look, session.palette)
        else:
            spot = next(spot for spot in planned.spots if spot.id == plan)
            why.show_soon(spot.candidate, planned.advice.request.limits, session.look, session.palette)

    def show_problem(self) -> None:
        """What is wrong, under its field where it is a field's; else how the best plan stands."""
        session = session_of(self)
        unreadable, problem = session.state.asked.errors(), session.problem
        errors = dict(unreadable)
        if problem is not None and problem.field is not None and problem.field not in errors:
            errors[problem.field] = problem.sentences(1)
        self.query_one(LimitsPanel).show_errors(errors)
        if unreadable:
            self.say(unreadable_line(session.planned, unreadable))
        elif problem is not None:
            self.say(problem.sentences())
        elif session.planned is not None:
            self.say(f"{self.note} {summary_line(session.planned)}".lstrip())

    def say(self, sentence: str) -> None:
        """The message line."""
        message, line = self.query_one("#message", Static), session_of(self).ascii_only(f" {sentence}")
        message.update(line, layout=message.styles.is_auto_height)

    def on_field_row_typed(self, event: FieldRow.Typed) -> None:
        """A field changed."""
        session, self.note = session_of(self), ""
        session.say(event.field, event.text)
        self.show_problem()

    def on_field_row_entered(self, event: FieldRow.Entered) -> None:
        """Enter in a field: the step is done; a model that is not known here is looked for on the network."""
        session = session_of(self)
        session.end_step()
        if event.field == "model":
            session.fetch_model()
        else:
            self.focus_next()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where a field owns all letters, the footer begins with the key that leaves it."""
        if action == "leave":
            return isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    def on_descendant_focus(self) -> None:
        """The footer follows."""
        self.refresh_bindings()

    def on_descendant_blur(self) -> None:
        """Leaving a field ends a step of undo."""
        session_of(self).end_step()

    def on_plans_panel_selected(self, event: PlansPanel.Selected) -> None:
        """The cursor moved."""
        session = session_of(self)
        session.select(event.plan)
        self.show_detail()

    def open_panel(self, name: str) -> None:
        """Give a panel the focus; where it is narrow, only it is shown."""
        for panel in self.query(".panel"):
            panel.set_class(panel.id == name, "-open")
        answers = self.query_one("#answers")
        for flag, panels in {"-closed": ("limits",), "-plans": ("plans",), "-below": ("why", "plot")}.items():
            answers.set_class(name in panels, flag)
        panel = self.query_one(f"#{name}", Widget)
        if isinstance(panel, LimitsPanel):
            panel.focus_first()
        else:
            panel.focus()
        self.call_after_refresh(self.show_detail)

    def action_step(self, step: int) -> None:
        """Walk the frontier by TPOT."""
        session = session_of(self)
        if session.planned is not None and session.selected is not None:
            following = frontier_step(session.planned.spots, session.selected, step)
            if following is not None:
                session.select(following)
                self.show_detail()
