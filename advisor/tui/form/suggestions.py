"""The question after a suggested change: one that admits a technique, the next step of a limit, a relaxation. Imports no Textual."""

from advisor.planfile.summary import round_enough
from advisor.planning.advice import Relaxation
from advisor.planning.question import DEFAULT_CONTEXT_TOKENS
from advisor.profiles.request import Load
from advisor.sensitivity.counterfactual import Change, ChangeKind
from advisor.sensitivity.marginal_gain import Gain
from advisor.tui.form.fields import OF_LIMIT, PREFERENCES
from advisor.tui.form.values import Constraint, FormValues

_OF_LENGTH = {
    "prompt_tokens": "prompt_tokens",
    "output_tokens": "output_tokens",
    "shared_prefix_tokens": "shared_prefix",
    "use_case": "use_case",
}


def with_change(values: FormValues, technique: str, change: Change) -> FormValues:
    """The question after a change that admits `technique`."""
    match change.kind:
        case ChangeKind.ALLOW:
            return values.with_constraint(technique, Constraint.FREE)
        case ChangeKind.REQUIRE:
            return values.with_constraint(technique, Constraint.REQUIRED)
        case ChangeKind.TECHNIQUE:
            return _with_partner(values.with_constraint(technique, Constraint.REQUIRED), change)
        case ChangeKind.LIMIT:
            return values.with_text(OF_LIMIT[change.name], _text(change.after))
        case ChangeKind.PREFERENCE:
            return values.with_text("prefer", "" if change.after == PREFERENCES[0] else str(change.after))
        case ChangeKind.LOAD:
            return _with_load(values, change)
        case ChangeKind.MACHINE:
            if change.name == "devices":
                return values.with_text("devices", _text(change.after))
            return values.with_text("hardware", str(change.after)).with_text("profile", "")


def with_gain(values: FormValues, gain: Gain) -> FormValues | None:
    """The question with the limit of a gain moved; `None` where the limit is the memory of the device itself."""
    if getattr(gain.request.limits, gain.limit) is None:
        return None
    return values.with_text(OF_LIMIT[gain.limit], _text(gain.loosened_to))


def with_relaxation(values: FormValues, relaxation: Relaxation) -> FormValues:
    """The question with the limit that the relaxed plan is likely enough to meet."""
    needed = relaxation.needed if relaxation.likely is None else relaxation.likely
    return values.with_text(OF_LIMIT[relaxation.limit], _text(round_enough(relaxation.limit, needed)))


def _with_partner(values: FormValues, change: Change) -> FormValues:
    if change.after is not None:
        return values.with_constraint(str(change.after), Constraint.REQUIRED)
    return values.with_constraint(str(change.before), Constraint.FORBIDDEN)


def _with_load(values: FormValues, change: Change) -> FormValues:
    workload = change.request.workload
    if change.name == "concurrency":
        return values.with_text("burst" if workload.load is Load.BURST else "concurrency", _text(change.after))
    values = values.with_text(_OF_LENGTH[change.name], _text(change.after))
    if change.name in ("shared_prefix_tokens", "use_case"):
        return values
    values = values.with_text("prompt_tokens", str(workload.prompt_tokens)).with_text("output_tokens", str(workload.output_tokens))
    default = max(DEFAULT_CONTEXT_TOKENS, workload.context_tokens)
    return values.with_text("context", "" if workload.longest_tokens == default else str(workload.longest_tokens))


def _text(value: float | str | None) -> str:
    return f"{value:.12g}" if isinstance(value, float | int) else str(value)
