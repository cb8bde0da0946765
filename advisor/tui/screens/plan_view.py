"""What the Plan screen shows: Limits, Plans, Memory, Why and Plot; side by side, or one at a time in a narrow terminal."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import Footer, Static

from advisor.tui.contract import AdvisorScreen, Interface
from advisor.tui.form.values import FormValues
from advisor.tui.panels.limits import LimitsPanel
from advisor.tui.panels.memory import MemoryPanel
from advisor.tui.panels.plans import WITHOUT_RANGES, PlansPanel, TableContent, filtered
from advisor.tui.panels.plot import PlotPanel
from advisor.tui.panels.shared import SharedLine
from advisor.tui.panels.why import WhyPanel
from advisor.tui.screens.insights_cache import InsightsCache
from advisor.tui.status_text import (
    counts_line,
    effective_values,
    header,
    summary_line,
    unreadable_line,
    without_model_line,
    without_plan,
)

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.rendering.text.insights import ExplainedPlan
    from advisor.tui.workers.planning_client import Planned

_RANGES_FROM = 170


class PlanView(AdvisorScreen[None]):
    """Draws the answer that the planning controller holds."""

    def __init__(self, ui: Interface) -> None:
        super().__init__(ui)
        self.limits = LimitsPanel(ui.store.state.values)
        self.table = PlansPanel()
        self.shared = SharedLine()
        self.memory = MemoryPanel()
        self.plot = PlotPanel()
        self.why = WhyPanel()
        self.insights = InsightsCache()
        self.note = ""
        """The last change of the question in words; empty once something else was typed."""

    def compose(self) -> ComposeResult:
        """Header, form and four other panels, message, keys."""
        yield Static("", id="header", markup=False)
        yield Static("This needs 60 columns and 16 rows.", id="too-small", markup=False)
        with Horizontal(id="body"):
            yield self.limits
            with Vertical(id="answers"):
                yield self.table
                yield self.shared
                yield self.memory
                with Container(id="below"):
                    yield self.plot
                    yield self.why
        yield Static("", id="message", markup=False)
        yield Footer(compact=True, show_command_palette=False)

    def on_resize(self, event: Resize) -> None:
        """Fit columns and drawings to the width, once the panels have theirs."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw everything again."""
        self.show_header()
        self.show_plans()

    def show_values(self, values: FormValues) -> None:
        """Show a question in the form."""
        self.limits.show(values)

    def show_header(self) -> None:
        """Show model, machine, and whether it is planning."""
        planning = self.ui.planning
        model = self.ui.store.state.values.text("model")
        planned = planning.planned if model else None
        line = header(planned, planning.this_machine, model, busy=planning.busy, chip=self.ui.jobs.chip, width=self.size.width)
        self.query_one("#header", Static).update(self.ui.ascii_only(line), layout=False)

    def show_plans(self) -> None:
        """Show the table, and everything that follows from the selected plan."""
        self.show_header()
        planned, selected = self.ui.planning.planned, self.ui.planning.selected
        state = self.ui.store.state
        if planned is None or selected is None:
            self.show_blanks()
            return
        rows = filtered(planned.alternatives, state.filter, state.sort)
        if selected not in {plan.id for plan in rows}:
            rows += [plan for plan in planned.alternatives if plan.id == selected]
        self.limits.show_effective(effective_values(planned))
        look = self.ui.look(self.size.width if self.size.width >= _RANGES_FROM else WITHOUT_RANGES)
        self.table.fill(TableContent(plans=rows, selected=selected, marked=state.marked, look=look, palette=self.ui.palette))
        self.shared.show([plan.candidate for plan in rows], self.ui.look)
        order = "" if state.sort == "rank" else f", by {state.sort}"
        shown = state.filter if planned.advice.binding is None else "all"
        self.table.border_title = self.ui.box_title(f"2 Plans  {counts_line(planned)}  [{shown}{order}]")
        self.show_detail()
        self.show_problem()

    def show_blanks(self) -> None:
        """While there is no plan, say in the table, the reasons and the plot what is missing."""
        planning = self.ui.planning
        if planning.planned is not None:
            return
        blank = without_plan(self.ui.store.state.values.text("model"), planning.problem, waiting=planning.waiting)
        self.table.say([self.ui.ascii_only(line) for line in blank.plans])
        self.why.say([self.ui.ascii_only(line) for line in blank.why])
        self.plot.say(self.ui.ascii_only(blank.plot))

    def show_detail(self) -> None:
        """Show memory, reasons and the point in the plot of the selected plan."""
        planning, palette = self.ui.planning, self.ui.palette
        planned, selected = planning.planned, planning.selected
        if planned is None or selected is None:
            return
        self.table.move_to(selected)
        if planning.detail is not None:
            self.memory.show(planning.detail, planned.budget_gib, self.ui.look, palette)
        self.show_why()
        self.plot.show(planned.alternatives, selected, planned.advice.limits, self.ui.look, palette)

    def show_why(self) -> None:
        """Show the reasons of the selected plan, or its numbers until the reasons are known."""
        planning, palette = self.ui.planning, self.ui.palette
        planned, selected = planning.planned, planning.selected
        if planned is None or selected is None:
            return
        if planning.detail is not None:
            self.why.show(self._explained(planned, planning.detail), self.ui.look, palette)
        else:
            plan = next(plan for plan in planned.alternatives if plan.id == selected)
            self.why.show_unsimulated(plan.candidate, planned.advice.limits, self.ui.look, palette)

    def _explained(self, planned: "Planned", detail: "Advice") -> "ExplainedPlan":
        from advisor.rendering.text.insights import ExplainedPlan
        from advisor.sensitivity.slack import limit_slacks

        slacks = limit_slacks(detail.chosen, detail.request, planned.budget_gib)
        insights = self.insights.of(planned, detail)
        return ExplainedPlan(advice=detail, slacks=slacks, insights=insights, pending_topic=self.insights.in_work)

    def show_problem(self) -> None:
        """Show what is wrong, under the field that is at fault; where nothing is, the best plan in a sentence."""
        planning = self.ui.planning
        unreadable, problem = self.ui.store.state.values.errors(), planning.problem
        errors = dict(unreadable)
        if problem is not None and problem.field is not None and problem.field not in errors:
            errors[problem.field] = problem.sentences(1)
        self.limits.show_errors(errors)
        self.show_blanks()
        if unreadable:
            self.say(unreadable_line(planning.planned, unreadable))
        elif problem is not None:
            self.say(problem.sentences())
        elif planning.planned is not None and not self.ui.store.state.values.text("model"):
            self.say(f"{self.note} {without_model_line(planning.planned)}".lstrip())
        elif planning.planned is not None:
            self.say(f"{self.note} {summary_line(planning.planned)}".lstrip())

    def say(self, sentence: str) -> None:
        """Show a sentence in the message line."""
        message, line = self.query_one("#message", Static), self.ui.ascii_only(f" {sentence}")
        message.update(line, layout=message.styles.is_auto_height)

    def open_panel(self, name: str) -> None:
        """Focus a panel, no field of it, so that digits stay keys; in a narrow terminal, show it alone."""
        for panel in self.query(".panel"):
            panel.set_class(panel.id == name, "-open")
        answers = self.query_one("#answers")
        for flag, panels in {"-closed": ("limits",), "-plans": ("plans",), "-below": ("why", "plot")}.items():
            answers.set_class(name in panels, flag)
        self.query_one(f"#{name}", Widget).focus()
        self.call_after_refresh(self.show_detail)

    def open_field(self, name: str) -> None:
        """Show the form and focus a field of it."""
        self.open_panel("limits")
        self.limits.focus_field(name)
