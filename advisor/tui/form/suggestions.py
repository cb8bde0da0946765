"""The question after a change that was offered is made: for a technique, of a limit's next unit, to get a plan. Knows no screen."""

from advisor.planfile.summary import round_enough
from advisor.planning.advice import Relaxation
from advisor.planning.question import DEFAULT_CONTEXT_TOKENS
from advisor.profiles.request import Load
from advisor.sensitivity.counterfactual import Change, ChangeKind
from advisor.sensitivity.marginal_gain import Gain
from advisor.tui.form.fields import OF_LIMIT, PREFERENCES
from advisor.tui.form.values import Force, FormValues

_OF_LENGTH = {"prompt_tokens": "prompt_tokens", "output_tokens": "output_tokens", "shared_prefix_tokens": "shared_prefix"}


def with_change(asked: FormValues, technique: str, change: Change) -> FormValues:
    """The question in which a change that lets in `technique` was made."""
    match change.kind:
        case ChangeKind.ALLOW:
            return asked.with_constraint(technique, Force.FREE)
        case ChangeKind.REQUIRE:
            return asked.with_constraint(technique, Force.REQUIRED)
        case ChangeKind.TECHNIQUE:
            return _with_partner(asked.with_constraint(technique, Force.REQUIRED), change)
        case ChangeKind.LIMIT:
            return asked.with_text(OF_LIMIT[change.name], _text(change.after))
        case ChangeKind.PREFERENCE:
            return asked.with_text("prefer", "" if change.after == PREFERENCES[0] else str(change.after))
        case ChangeKind.LOAD:
            return _with_load(asked, change)
        case ChangeKind.MACHINE:
            if change.name == "devices":
                return asked.with_text("devices", _text(change.after))
            return asked.with_text("hardware", str(change.after)).with_text("profile", "")


def with_gain(asked: FormValues, gain: Gain) -> FormValues | None:
    """The question with a limit moved; `None` where it is the device itself that would have to be larger."""
    if getattr(gain.request.limits, gain.limit) is None:
        return None
    return asked.with_text(OF_LIMIT[gain.limit], _text(gain.moved_to))


def with_relaxation(asked: FormValues, relaxation: Relaxation) -> FormValues:
    """The question with the limit at which the plan is likely enough to pass."""
    needed = relaxation.needed if relaxation.likely is None else relaxation.likely
    return asked.with_text(OF_LIMIT[relaxation.limit], _text(round_enough(relaxation.limit, needed)))


def _with_partner(asked: FormValues, change: Change) -> FormValues:
    if change.after is not None:
        return asked.with_constraint(str(change.after), Force.REQUIRED)
    return asked.with_constraint(str(change.before), Force.FORBIDDEN)


def _with_load(asked: FormValues, change: Change) -> FormValues:
    workload = change.request.workload
    if change.name == "concurrency":
        return asked.with_text("burst" if workload.load is Load.BURST else "concurrency", _text(change.after))
    asked = asked.with_text(_OF_LENGTH[change.name], _text(change.after))
    if change.name == "shared_prefix_tokens":
        return asked
    asked = asked.with_text("prompt_tokens", str(workload.prompt_tokens)).with_text("output_tokens", str(workload.output_tokens))
    usual = max(DEFAULT_CONTEXT_TOKENS, workload.context_tokens)
    return asked.with_text("context", "" if workload.longest_tokens == usual else str(workload.longest_tokens))


def _text(value: float | str | None) -> str:
    return f"{value:.12g}" if isinstance(value, float | int) else str(value)
