"""A run for reading on a screen: the outcome first, then every metric of every rung, then what each technique changed."""

from collections.abc import Sequence

from advisor.compare import Comparison, compare
from advisor.profiles.run import Run, RungStatus
from advisor.views.comparison import cause_lines, share_lines, step_lines, summary_lines
from advisor.views.run import afterwards, ladder, rung_label
from advisor.views.style import Look, wrap


def compared_lines(run: Run, look: Look, following: Sequence[str] = ()) -> list[str]:
    """Count in range, pace, limits and likely cause; what comes next; the full stack, the ladder, the other rungs, shares."""
    comparison = compare(run)
    if not any(line.measured for step in comparison.steps for line in step.lines):
        return _nothing_measured(comparison, look)
    lines = [*summary_lines(comparison, look), *cause_lines(comparison, look), *following]
    steps = comparison.steps
    lines += [line for step in steps[-1:] for line in ("", *step_lines(step, comparison, look))]
    lines += ["", *ladder(comparison, look), *afterwards(comparison, look)]
    lines += [line for step in steps[:-1] for line in ("", *step_lines(step, comparison, look))]
    return [*lines, "", *share_lines(comparison, look)]


def _nothing_measured(comparison: Comparison, look: Look) -> list[str]:
    """Why there is nothing to compare, rung by rung."""
    lines = wrap("Nothing was measured: the run ended before its first rung was done.", look)
    ended = [step for step in comparison.steps if step.status is not RungStatus.NOT_RUN]
    for step in ended:
        lines += wrap(step.problem or step.status.value, look, first=f"{rung_label(step, comparison.steps)}  ")
    return [*lines, "", *wrap("a on the plan goes on with it.", look)]
