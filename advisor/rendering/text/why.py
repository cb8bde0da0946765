"""Sentences on why: how a plan stands against a limit, what the next unit of it buys, what would let a technique in."""

import re

from advisor.planning.advice import Candidate, Violation
from advisor.profiles.metrics import Value
from advisor.quantities.formatting import number, percent, quantity, scale
from advisor.quantities.limits import LIMITS, METRIC_OF
from advisor.quantities.metrics import METRICS
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome
from advisor.sensitivity.marginal_gain import Gain
from advisor.sensitivity.marginal_gain import MetricChange as Moved
from advisor.sensitivity.slack import LimitSlack

OUTCOMES = {
    CounterfactualOutcome.CHOSEN: "planned again, it is in the plan",
    CounterfactualOutcome.AHEAD: "it then ranks before this plan",
    CounterfactualOutcome.ALLOWED: "it is then possible, but this plan still ranks before it",
    CounterfactualOutcome.MISSES: "it is then in the plan, which misses a limit",
}
NO_CHANGE_HELPS = "Nothing that may be asked of this model lets it in."
SUMMARY_METRICS = ("tpot_ms_mean", "ttft_ms_mean", "peak_memory_gib", "quality_loss_pct")
"""What is told of a plan in passing."""
_FLAG = re.compile(r" \(--[a-z-]+ [^ ,)]+(?:(, [^)]*))?\)")
LOADS = {
    "concurrency": "requests at once",
    "prompt_tokens": "tokens of a prompt",
    "output_tokens": "tokens of an answer",
    "shared_prefix_tokens": "tokens that every prompt begins with",
}


def with_range(value: Value, unit: str) -> str:
    """A number with its unit and its range in words: `302 ms, between 262 and 345 ms`."""
    scaled = scale(unit, (value.value,))
    text = quantity(value.value, unit)
    if value.low == value.high:
        return text
    return f"{text}, between {number(value.low * scaled.factor)} and {number(value.high * scaled.factor)} {scaled.unit}".rstrip()


def slack_words(standing: LimitSlack) -> str:
    """How near a plan is to one limit, in a sentence."""
    shown = METRIC_OF[standing.limit]
    bound = f"{'at least' if shown.higher_is_better else 'at most'} {quantity(standing.bound, shown.unit, trim=True)}"
    whose = ", what the device has for use" if standing.is_device_memory else ""
    word = "of room" if standing.slack >= 0 else "missing" if shown.higher_is_better else "too much"
    room = f"{quantity(abs(standing.slack), shown.unit)} {word}"
    value = with_range(standing.predicted, shown.unit)
    return f"{shown.label} {value}; the limit is {bound}{whose}: {room}, kept with {percent(standing.probability)} probability."


def gain_words(gain: Gain) -> str:
    """What a step of a limit buys, in a sentence."""
    shown = METRIC_OF[gain.limit]
    asked, step, to = (quantity(value, shown.unit, trim=True) for value in (gain.bound, gain.step, gain.loosened_to))
    begin = f"{step} {'less' if shown.higher_is_better else 'more'} of {shown.label}, {asked} to {to}, buys"
    before, after = map(percent, gain.probability)
    chance = "" if before == after else f"; all limits are then kept with {after} probability, now {before}"
    if gain.changes_nothing:
        return f"{begin} nothing{chance.replace(';', ' but room:', 1)}."
    plan = f" ({stack_words(gain.chosen)})" if gain.changes_plan else ""
    moves = "; ".join(map(moved_words, gain.changes)) or "no metric by 1 % or more"
    return f"{begin}{' another plan' if gain.changes_plan else ''}{plan}: {moves}{chance}."


def moved_words(change: Moved) -> str:
    """One metric before and after, the latter with its range."""
    unit = METRICS[change.metric].unit
    return f"{METRICS[change.metric].phrase} {quantity(change.before.value, unit)} to {with_range(change.after, unit)}"


def change_words(change: Change, *, flags: bool = True) -> str:
    """What to change, and what that does, in a sentence; `flags` says how the command line calls it."""
    required = change.kind is ChangeKind.REQUIRE and change.outcome is CounterfactualOutcome.CHOSEN
    what = _what(change) if flags else _FLAG.sub(r"\1", _what(change))
    return f"{what}: {'it is then in the plan' if required else OUTCOMES[change.outcome]}{_figures(change)}."


def stack_words(candidate: Candidate) -> str:
    """The techniques of a plan by name."""
    return " + ".join(candidate.names) or "the unmodified model"


def _what(change: Change) -> str:
    match change.kind:
        case ChangeKind.ALLOW:
            return f"Allow it (drop --forbid {change.name})"
        case ChangeKind.REQUIRE:
            return f"Require it (--require {change.name})"
        case ChangeKind.TECHNIQUE:
            return _exchange(change)
        case ChangeKind.LIMIT:
            return _limit(change)
        case ChangeKind.PREFERENCE:
            return f"Prefer {change.after} (--prefer {change.after})"
        case ChangeKind.LOAD:
            before = "none" if change.before is None else f"{change.before:.0f}"
            return f"{change.after:.0f} {LOADS[change.name]}, now {before}"
        case ChangeKind.MACHINE:
            return (
                f"{change.after:.0f} devices, now {change.before:.0f}"
                if change.name == "devices"
                else f"On {change.after} (--hardware {change.after})"
            )


def _exchange(change: Change) -> str:
    if change.after is None:
        return f"Leave out {change.before}"
    return f"Add {change.after}" if change.before is None else f"Put {change.after} in the place of {change.before}"


def _limit(change: Change) -> str:
    shown = METRIC_OF[change.name]
    assert isinstance(change.after, float)
    bound = f"{'at least' if shown.higher_is_better else 'at most'} {quantity(change.after, shown.unit, trim=True)}"
    now = f", now {quantity(change.before, shown.unit, trim=True)}" if isinstance(change.before, float) else ", not limited now"
    return f"A limit of {bound} on {shown.label} ({LIMITS[change.name].flag} {number(change.after, trim=True)}{now})"


def _figures(change: Change) -> str:
    """The plan with the technique: what it is predicted to do, and the limits that it misses."""
    metrics = change.candidate.metrics
    values = ((name, getattr(metrics, name)) for name in SUMMARY_METRICS)
    told = [f"{METRICS[name].phrase} {quantity(value.value, METRICS[name].unit)}" for name, value in values if value is not None]
    return f" ({', '.join((*map(miss_words, change.candidate.violations), *told))})"


def miss_words(miss: Violation) -> str:
    """A limit that a plan misses, with both numbers."""
    shown = METRIC_OF[miss.limit]
    return f"{shown.label} {quantity(miss.predicted.value, shown.unit)} misses {quantity(miss.bound, shown.unit, trim=True)}"
