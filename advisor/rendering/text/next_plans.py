"""The plans to try after a run as text: what each is made of, what it is predicted to do, and the command that plans it."""

import shlex
from collections.abc import Sequence

from advisor.feedback.next_plans import NextPlans, ProfileSource
from advisor.planning.advice import Candidate
from advisor.quantities.formatting import percent, quantity, value_text
from advisor.quantities.limits import METRIC_OF
from advisor.quantities.metrics import METRICS
from advisor.rendering.text.plans import describe
from advisor.rendering.text.style import Look, wrap

_METRIC_CHOICES = (("ttft_ms_mean", "ttft_ms_p95"), ("tpot_ms_mean", "tpot_ms_p95"), ("throughput_tok_s",))
"""The metrics of a plan's line: of each tuple, the first that was predicted."""


def next_plan_lines(next_plans: NextPlans, plan_arguments: Sequence[str], look: Look) -> list[str]:
    """A heading that says how the plans are predicted, then three lines for each; empty where there is no plan.

    `plan_arguments` are the arguments of `advisor plan` that ask the run's question.
    """
    if not next_plans.candidates:
        return []
    heading = [look.paint(line, "title") for line in wrap(f"To try next, {_predicted_with(next_plans)}", look)]
    return ["", *heading, *(line for candidate in next_plans.candidates for line in _plan_lines(candidate, plan_arguments, look))]


def _predicted_with(next_plans: NextPlans) -> str:
    if next_plans.profile_source is ProfileSource.REFITTED:
        return "predicted with the profile as this run refits it (f stores that)"
    if next_plans.profile_source is ProfileSource.STORED:
        return "predicted with the profile that this run has refitted"
    if not next_plans.tightened:
        return "predicted as this plan was"
    limits = (
        f"{METRICS[metric.name].label} {'at least' if metric.higher_is_better else 'at most'} {quantity(bound, metric.unit, trim=True)}"
        for limit, bound in next_plans.tightened
        for metric in (METRIC_OF[limit],)
    )
    return f"with {' and '.join(limits)}: tightened by as much as this run was worse than predicted"


def _plan_lines(candidate: Candidate, plan_arguments: Sequence[str], look: Look) -> list[str]:
    techniques = " + ".join(map(describe, candidate.techniques)) or "the unmodified model"
    values = candidate.metrics.present()
    names = [name for choices in _METRIC_CHOICES for name in [name for name in choices if name in values][:1]]
    metrics = [f"{METRICS[name].label} {value_text(values[name], METRICS[name].unit)}" for name in names]
    requirement = "meets all limits" if len(candidate.probabilities) > 1 else "fits in memory"
    command = shlex.join(("advisor", "plan", *plan_arguments, f"--choose={candidate.id}", "-o", f"plan-{candidate.id}.yaml"))
    return [
        *wrap(techniques, look, first="  "),
        *wrap(f"{', '.join(metrics)}; {requirement} with {percent(candidate.probability)} probability", look, first="    "),
        *(look.paint(line, "dim") for line in wrap(command, look, first="    ", rest="      ")),
    ]
