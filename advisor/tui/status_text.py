"""Sentences of the header and the message line. Imports no Textual."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advisor.profiles.formats import GIB
from advisor.tui.form.fields import BY_NAME
from advisor.tui.form.problem import Problem
from advisor.tui.workers.planning_client import Planned, ThisMachine


def header(planned: Planned | None, machine: ThisMachine | None, model: str, *, busy: bool, chip: str = "", width: int = 120) -> str:
    """One line of at most `width` columns: work in the background (`chip`), planning, model, machine with the source of its numbers.

    In a narrow terminal the name of the model is shortened before the machine.
    """
    machine_label = "detecting this machine ..." if machine is None else machine.label
    doing = "planning ..." if busy else "planned" if planned is not None else "ready"
    doing = f"{chip} │ {doing}" if chip else doing
    if planned is None:
        return f" advisor │ {doing} │ {model or 'no model yet'} │ {machine_label}"
    from advisor.quantities.formatting import quantity  # the planner is loaded by now
    from advisor.rendering.text.style import clip

    advice = planned.advice
    spec, hardware = advice.model, advice.hardware
    count = f"{advice.request.devices} x " if advice.request.devices > 1 else ""
    source = f"PROFILED {advice.profile}" if advice.profile else "DATASHEET" if planned.on_this_machine else "WHAT-IF"
    device = f"{count}{hardware.name} {quantity(hardware.memory_bytes / GIB, 'GiB')} [{source}]"
    size, short = quantity(spec.parameters, "count"), spec.id.rsplit("/", 1)[-1]
    whole = f" advisor │ {doing} │ {spec.id} {size} │ {device}"
    for line in (whole, f" {doing} │ {spec.id} {size} │ {device}", f" {doing} │ {short} {size} │ {device}"):
        if len(line) <= width:
            return line
    left = width - len(f" {doing} │  │ {device}")
    return f" {doing} │ {clip(short, max(left, 8))} │ {device}"


def unreadable_line(planned: Planned | None, errors: Mapping[str, str]) -> str:
    """The error of the first field that cannot be read, and the value of that field in the plan on the screen."""
    name, error = next(iter(errors.items()))
    label = BY_NAME[name].short_label
    if planned is None:
        return f"{label} {error}"
    text = planned.values.text(name)
    return f"{label} {error}. The plan shown is for {f'{label} {text}' if text else f'an empty {label}'}."


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankPanels:
    """What the panels say while there is no plan: lines to wrap."""

    plans: tuple[str, ...]
    why: tuple[str, ...]
    plot: str


def without_plan(model: str, problem: Problem | None, *, waiting: bool) -> BlankPanels:
    """What to type where there is no model, what is being done where there is one, and what is wrong where it cannot be planned."""
    if not model:
        return BlankPanels(
            plans=("The plans for a model are listed here.", "", "Type a Hugging Face id or a folder in Model, or press 0 for a list."),
            why=(
                "No model yet. Type a Hugging Face id or a folder in Model, or press 0 for a list.",
                "",
                "m plans for a machine that you do not have.",
            ),
            plot="Each plan becomes a point: time per output token against tokens per second.",
        )
    if waiting or problem is None:
        doing = f"Planning {model} ..."
        return BlankPanels(plans=(doing,), why=(doing, "", "The reasons for the best plan follow."), plot=doing)
    return BlankPanels(
        plans=(f"No plan: {problem.sentences()}.",),
        why=("Without a plan there are no reasons.", "", "1 and Enter lead to the fields, u undoes the last change."),
        plot="No plan to draw.",
    )


def restored_line(restored: Sequence[str], width: int) -> str:
    """What was taken over from the last session, in one line of at most `width` columns, and the key that clears it; empty for nothing."""
    if not restored:
        return ""
    begin, end = "From the last session: ", "; ^n clears all."
    listed = f"{begin}{', '.join(restored)}{end}"
    if len(listed) <= width:
        return listed
    for count in range(len(restored) - 1, 0, -1):
        line = f"{begin}{', '.join(restored[:count])} and {len(restored) - count} more{end}"
        if len(line) <= width:
            return line
    return f"{begin}{len(restored)} fields{end}"


def without_model_line(planned: Planned) -> str:
    """What to do once the question has no model, as after undoing it, and what the plan on the screen is for."""
    return f"No model: type one, or press 0 for a list. The plan shown is for {planned.advice.model.id}."


def effective_values(planned: Planned) -> dict[str, str]:
    """The values that the planner used for empty fields: lengths, devices and load, by field name."""
    from advisor.profiles.request import Load  # the planner is loaded by now

    workload = planned.advice.request.workload
    values = {
        "context": workload.longest_tokens,
        "prompt_tokens": workload.prompt_tokens,
        "output_tokens": workload.output_tokens,
        "devices": planned.advice.request.devices,
        "concurrency": workload.concurrency if workload.load is Load.CLOSED else None,
    }
    return {name: "none" if value is None else f"{value}, assumed" for name, value in values.items()}


def summary_line(planned: Planned) -> str:
    """The answer in a sentence: the verdict on the best plan, or what the nearest one misses and the key that helps."""
    from advisor.rendering.text.advice import verdict  # the planner is loaded by now
    from advisor.rendering.text.why import violation_words

    advice = planned.advice
    if advice.binding is None:
        sentence = _binding(planned) or verdict(advice)
        return sentence[:1].upper() + sentence[1:]
    nearest = " + ".join(advice.chosen.names) or "the unmodified model"
    if not planned.final:
        return f"No plan seems to meet every limit; in the nearest {violation_words(advice.binding)}. Simulating it ... ({nearest})"
    next_step = "r shows which limit to move." if advice.relaxations else "No change of a single limit makes a plan feasible."
    return f"No plan meets every limit; in the nearest {violation_words(advice.binding)}. {next_step} ({nearest})"


def _binding(planned: Planned) -> str | None:
    """The binding limit of a plan that meets all limits; `None` without limits."""
    from advisor.planfile.summary import stated_quality_loss
    from advisor.planning.advice import Status
    from advisor.quantities.formatting import percent, quantity
    from advisor.quantities.limits import METRIC_OF
    from advisor.sensitivity.slack import limit_slacks

    chosen = planned.advice.chosen
    slacks = [slack for slack in limit_slacks(chosen, planned.advice.request, planned.budget_gib) if not slack.is_device_memory]
    if not slacks:
        return None
    unit, label = METRIC_OF[slacks[0].limit].unit, METRIC_OF[slacks[0].limit].label
    of = f"{quantity(slacks[0].predicted.value, unit)} of {quantity(slacks[0].bound, unit, trim=True)}"
    risk = ", at RISK" if chosen.status is Status.AT_RISK else ""
    loss = stated_quality_loss(chosen)
    return f"meets all limits with {percent(chosen.probability)} probability{risk}; the binding one is {label}, {of}{loss}"


def counts_line(planned: Planned) -> str:
    """Number of plans on the frontier, feasible and rejected."""
    advice = planned.advice
    frontier = len(advice.ranked) if advice.binding is None else 0
    return f"{frontier} on the frontier · {advice.feasible} feasible · {advice.considered - advice.feasible} rejected"
