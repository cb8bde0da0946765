"""The plans to try after a run: what each is predicted to do, and the command that makes its file."""

import shlex
from collections.abc import Sequence

from advisor.advice import Candidate
from advisor.next_plans import NextPlans, Pricing
from advisor.numbers import percent, quantity, value_text
from advisor.shown_metrics import BY_LIMIT, SHOWN
from advisor.views.plans import describe
from advisor.views.style import Look, wrap

_TOLD = (("ttft_ms_mean", "ttft_ms_p95"), ("tpot_ms_mean", "tpot_ms_p95"), ("throughput_tok_s",))
"""Of each group the first that is known."""


def next_lines(following: NextPlans, words: Sequence[str], look: Look) -> list[str]:
    """A heading with how they are priced, then each plan; `words` are what follows `advisor plan` for the question. Nothing without one."""
    if not following.candidates:
        return []
    heading = [look.paint(line, "title") for line in wrap(f"To try next, {_priced(following)}", look)]
    return ["", *heading, *(line for candidate in following.candidates for line in _plan_lines(candidate, words, look))]


def _priced(following: NextPlans) -> str:
    if following.pricing is Pricing.REFITTED:
        return "predicted with the profile as this run refits it (f stores that)"
    if following.pricing is Pricing.STORED:
        return "predicted with the profile that this run has refitted"
    if not following.tightened:
        return "predicted as this plan was"
    limits = (
        f"{SHOWN[shown.name].label} {'at least' if shown.higher_is_better else 'at most'} {quantity(bound, shown.unit, trim=True)}"
        for limit, bound in following.tightened
        for shown in (BY_LIMIT[limit],)
    )
    return f"with {' and '.join(limits)}: tightened by as much as this run was worse than predicted"


def _plan_lines(candidate: Candidate, words: Sequence[str], look: Look) -> list[str]:
    made_of = " + ".join(map(describe, candidate.techniques)) or "the unmodified model"
    present = candidate.metrics.present()
    known = [name for names in _TOLD for name in [name for name in names if name in present][:1]]
    told = [f"{SHOWN[name].label} {value_text(present[name], SHOWN[name].unit)}" for name in known]
    kept = "all limits kept" if len(candidate.chances) > 1 else "fits in memory"
    command = shlex.join(("advisor", "plan", *words, f"--choose={candidate.id}", "-o", f"plan-{candidate.id}.yaml"))
    return [
        *wrap(made_of, look, first="  "),
        *wrap(f"{', '.join(told)}; {kept} with {percent(candidate.probability)}", look, first="    "),
        *(look.paint(line, "dim") for line in wrap(command, look, first="    ", rest="      ")),
    ]
