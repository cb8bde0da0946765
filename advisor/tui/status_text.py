"""What the session is told: problems in the form's words, and the sentences of the header and of the message line. Knows no screen."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from advisor.profiles.errors import AdvisorError
from advisor.profiles.formats import GIB
from advisor.tui.form.fields import BY_NAME, field_of_error, in_form_words
from advisor.tui.workers.planning_client import Here, Planned


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer to what was asked."""

    message: str
    field: str | None = None
    """The field to correct; `None` where it is none of them."""
    help: tuple[str, ...] = ()

    def sentences(self, helps: int | None = None) -> str:
        """The message and so much of the help as running text."""
        said = (self.message, *(_begun(re.sub(r" {2,}", " ", line)) for line in self.help[:helps]))
        return " ".join(part if part[-1:] in ".?!" else f"{part}." for part in said).removesuffix(".")


def problem_of(error: AdvisorError) -> Problem:
    """A failure of the planner, in the words of the form."""
    facts = [in_form_words(fact) for fact in (error.message, *error.notes)]
    return Problem(
        ". ".join(map(_begun, facts)), field_of_error(error.code, error.message, error.help), tuple(map(in_form_words, error.help))
    )


def _begun(sentence: str) -> str:
    """With a capital, unless it begins with a name: a path, an id."""
    return sentence[:1].upper() + sentence[1:] if sentence.partition(" ")[0].isalpha() else sentence


def header(planned: Planned | None, here: Here | None, model: str, *, busy: bool, chip: str = "", width: int = 120) -> str:
    """One line: model, machine with how well it is known, and what goes on; `chip` tells of work in the background.

    Where it is narrow, the model's name is shortened, so that the machine stays to be seen.
    """
    machine = "detecting this machine ..." if here is None else here.words
    doing = "planning ..." if busy else "planned" if planned is not None else "ready"
    doing = f"{chip} │ {doing}" if chip else doing
    if planned is None:
        return f" advisor │ {doing} │ {model or 'no model yet'} │ {machine}"
    from advisor.quantities.formatting import quantity  # the planner is loaded by now
    from advisor.rendering.text.style import clip

    advice = planned.advice
    spec, hardware = advice.model, advice.hardware
    count = f"{advice.request.devices} x " if advice.request.devices > 1 else ""
    known = f"PROFILED {advice.profile}" if advice.profile else "DATASHEET" if planned.here else "WHAT-IF"
    device = f"{count}{hardware.name} {quantity(hardware.memory_bytes / GIB, 'GiB')} [{known}]"
    size, short = quantity(spec.parameters, "count"), spec.id.rsplit("/", 1)[-1]
    whole = f" advisor │ {doing} │ {spec.id} {size} │ {device}"
    for line in (whole, f" {doing} │ {spec.id} {size} │ {device}", f" {doing} │ {short} {size} │ {device}"):
        if len(line) <= width:
            return line
    room = width - len(f" {doing} │  │ {device}")
    return f" {doing} │ {clip(short, max(room, 8))} │ {device}"


def unreadable_line(planned: Planned | None, errors: Mapping[str, str]) -> str:
    """What is wrong with the first field that cannot be read, and what the plan on the screen is for meanwhile."""
    name, error = next(iter(errors.items()))
    label = BY_NAME[name].label.split(",")[0]
    if planned is None:
        return f"{label} {error}"
    text = planned.asked.text(name)
    return f"{label} {error}. The plan shown is for {f'{label} {text}' if text else f'an empty {label}'}."


def effective_values(planned: Planned) -> dict[str, str]:
    """What the planner took for fields that are empty: lengths, devices and load."""
    from advisor.profiles.request import Load  # the planner is loaded by now

    workload = planned.advice.request.workload
    taken = {
        "context": workload.longest_tokens,
        "prompt_tokens": workload.prompt_tokens,
        "output_tokens": workload.output_tokens,
        "devices": planned.advice.request.devices,
        "concurrency": workload.concurrency if workload.load is Load.CLOSED else None,
    }
    return {name: "none" if value is None else f"{value}, assumed" for name, value in taken.items()}


def summary_line(planned: Planned) -> str:
    """The answer in a sentence: how the best plan stands, or what the nearest one misses and the key that helps."""
    from advisor.rendering.text.advice import verdict  # the planner is loaded by now
    from advisor.rendering.text.why import miss_words

    advice = planned.advice
    if advice.binding is None:
        sentence = _binding(planned) or verdict(advice)
        return sentence[:1].upper() + sentence[1:]
    nearest = " + ".join(advice.chosen.names) or "the unmodified model"
    if not planned.final:
        return f"No plan seems to meet every limit; in the nearest {miss_words(advice.binding)}. Simulating it ... ({nearest})"
    way_out = "r shows which limit to move." if advice.relaxations else "No change of a single limit lets a plan in."
    return f"No plan meets every limit; in the nearest {miss_words(advice.binding)}. {way_out} ({nearest})"


def _binding(planned: Planned) -> str | None:
    """Which of the asked limits binds a plan that meets all of them; `None` where none was asked."""
    from advisor.planning.advice import Status
    from advisor.quantities.formatting import percent, quantity
    from advisor.sensitivity.slack import limit_slacks

    chosen = planned.advice.chosen
    asked = [found for found in limit_slacks(chosen, planned.advice.request, planned.budget_gib) if not found.of_the_device]
    if not asked:
        return None
    from advisor.quantities.limits import METRIC_OF

    unit, label = METRIC_OF[asked[0].limit].unit, METRIC_OF[asked[0].limit].label
    of = f"{quantity(asked[0].predicted.value, unit)} of {quantity(asked[0].asked, unit, trim=True)}"
    risk = ", at RISK" if chosen.status is Status.AT_RISK else ""
    return f"meets all limits with {percent(chosen.probability)} probability{risk}; the binding one is {label}, {of}"


def counts_line(planned: Planned) -> str:
    """How many plans stand how."""
    advice = planned.advice
    frontier = len(advice.ranked) if advice.binding is None else 0
    return f"{frontier} on the frontier · {advice.feasible} feasible · {advice.considered - advice.feasible} rejected"
