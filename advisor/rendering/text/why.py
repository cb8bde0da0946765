"""Sentences that explain a plan: the slack of a limit, its marginal gain, and the changes that would admit a technique."""

from advisor.planning.advice import Candidate, Violation
from advisor.profiles.metrics import Value
from advisor.quantities.formatting import number, percent, quantity, scale
from advisor.quantities.limits import LIMITS, METRIC_OF
from advisor.quantities.metrics import METRICS
from advisor.rendering.text.metrics import bound_words
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome
from advisor.sensitivity.marginal_gain import Gain
from advisor.sensitivity.marginal_gain import MetricChange as MetricChange
from advisor.sensitivity.slack import LimitSlack

_OUTCOMES = {
    CounterfactualOutcome.CHOSEN: "planned again, the plan has it",
    CounterfactualOutcome.AHEAD: "the plan with it then ranks above this plan",
    CounterfactualOutcome.ALLOWED: "it is then possible, but this plan still ranks above it",
    CounterfactualOutcome.MISSES: "the plan then has it and misses a limit",
}
NO_CHANGE_HELPS = "No change of the question admits it for this model."
SUMMARY_METRICS = ("tpot_ms_mean", "ttft_ms_mean", "peak_memory_gib", "quality_loss_pct")
"""Metrics named in a sentence about a plan."""
_LOAD_LABELS = {
    "concurrency": "concurrent requests",
    "prompt_tokens": "prompt tokens",
    "output_tokens": "output tokens",
    "shared_prefix_tokens": "tokens of shared prefix",
}


def with_range(value: Value, unit: str) -> str:
    """A number with its unit and its range in words: `302 ms, between 262 and 345 ms`."""
    scaled = scale(unit, (value.value,))
    text = quantity(value.value, unit)
    if value.low == value.high:
        return text
    return f"{text}, between {number(value.low * scaled.factor)} and {number(value.high * scaled.factor)} {scaled.unit}".rstrip()


def slack_words(slack: LimitSlack) -> str:
    """The slack of a plan against one limit, in a sentence."""
    info = METRIC_OF[slack.limit]
    bound = bound_words(info, slack.bound)
    whose = ", the usable memory of the device" if slack.is_device_memory else ""
    word = "of slack" if slack.slack >= 0 else "missing" if info.higher_is_better else "too much"
    amount = f"{quantity(abs(slack.slack), info.unit)} {word}"
    value = with_range(slack.predicted, info.unit)
    return f"{info.label} {value}; the limit is {bound}{whose}: {amount}, met with {percent(slack.probability)} probability."


def gain_words(gain: Gain) -> str:
    """What loosening a limit by a step gains, in a sentence."""
    info = METRIC_OF[gain.limit]
    bound, step, loosened = (quantity(value, info.unit, trim=True) for value in (gain.bound, gain.step, gain.loosened_to))
    begin = f"{step} {'less' if info.higher_is_better else 'more'} of {info.label}, {bound} to {loosened}, gives"
    before, after = map(percent, gain.probability)
    chance = "" if before == after else f"; all limits are then met with {after} probability, now {before}"
    if gain.changes_nothing:
        return f"{begin} nothing{chance.replace(';', ' but slack:', 1)}."
    plan = f" ({stack_words(gain.chosen)})" if gain.changes_plan else ""
    moves = "; ".join(map(metric_change_words, gain.changes)) or "no metric changes by 1 % or more"
    return f"{begin}{' another plan' if gain.changes_plan else ''}{plan}: {moves}{chance}."


def metric_change_words(change: MetricChange) -> str:
    """One metric before and after the change, the latter with its range."""
    unit = METRICS[change.metric].unit
    return f"{METRICS[change.metric].phrase} {quantity(change.before.value, unit)} to {with_range(change.after, unit)}"


def change_words(change: Change, *, flags: bool = True) -> str:
    """A change and its outcome, in a sentence; `flags` adds the option of the command line."""
    required = change.kind is ChangeKind.REQUIRE and change.outcome is CounterfactualOutcome.CHOSEN
    outcome = "the plan then has it" if required else _OUTCOMES[change.outcome]
    return f"{_change_phrase(change, flags=flags)}: {outcome}{_figures(change)}."


def stack_words(candidate: Candidate) -> str:
    """The techniques of a plan by name."""
    return " + ".join(candidate.names) or "the unmodified model"


def _change_phrase(change: Change, *, flags: bool) -> str:
    match change.kind:
        case ChangeKind.ALLOW:
            return "Allow it" + (f" (drop --forbid {change.name})" if flags else "")
        case ChangeKind.REQUIRE:
            return "Require it" + (f" (--require {change.name})" if flags else "")
        case ChangeKind.TECHNIQUE:
            return _technique_words(change)
        case ChangeKind.LIMIT:
            return _limit_phrase(change, flags=flags)
        case ChangeKind.PREFERENCE:
            return f"Prefer {change.after}" + (f" (--prefer {change.after})" if flags else "")
        case ChangeKind.LOAD if change.name == "use_case":
            return f"Use case {change.after}, now {change.before}" + (f" (--use-case {change.after})" if flags else "")
        case ChangeKind.LOAD:
            before = "none" if change.before is None else f"{change.before:.0f}"
            return f"{change.after:.0f} {_LOAD_LABELS[change.name]}, now {before}"
        case ChangeKind.MACHINE if change.name == "devices":
            return f"{change.after:.0f} devices, now {change.before:.0f}"
        case ChangeKind.MACHINE:
            return f"On {change.after}" + (f" (--hardware {change.after})" if flags else "")


def _technique_words(change: Change) -> str:
    if change.after is None:
        return f"Remove {change.before}"
    return f"Add {change.after}" if change.before is None else f"Replace {change.before} by {change.after}"


def _limit_phrase(change: Change, *, flags: bool) -> str:
    info = METRIC_OF[change.name]
    assert isinstance(change.after, float)
    now = f"now {quantity(change.before, info.unit, trim=True)}" if isinstance(change.before, float) else "not limited now"
    limit = f"A limit of {bound_words(info, change.after)} on {info.label}"
    return f"{limit} ({LIMITS[change.name].flag} {number(change.after, trim=True)}, {now})" if flags else f"{limit}, {now}"


def _figures(change: Change) -> str:
    """Of the plan with the technique: the limits that it misses, and its main metrics."""
    metrics = change.candidate.metrics
    values = ((METRICS[name], getattr(metrics, name)) for name in SUMMARY_METRICS)
    figures = [f"{info.phrase} {quantity(value.value, info.unit)}" for info, value in values if value is not None]
    return f" ({', '.join((*map(violation_words, change.candidate.violations), *figures))})"


def violation_words(violation: Violation) -> str:
    """A limit that a plan misses, with the predicted value and the bound."""
    info = METRIC_OF[violation.limit]
    return f"{info.label} {quantity(violation.predicted.value, info.unit)} misses {quantity(violation.bound, info.unit, trim=True)}"
