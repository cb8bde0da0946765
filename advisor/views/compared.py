"""A run for reading on a screen: the outcome first, then every metric of every rung, then what each technique changed."""

from collections.abc import Sequence

from advisor.compare import compare
from advisor.profiles.run import Run
from advisor.views.comparison import cause_lines, share_lines, step_lines, summary_lines
from advisor.views.run import afterwards, ladder
from advisor.views.style import Look


def compared_lines(run: Run, look: Look, following: Sequence[str] = ()) -> list[str]:
    """Count in range, pace, limits and likely cause; what comes next; the full stack, the ladder, the other rungs, shares."""
    comparison = compare(run)
    lines = [*summary_lines(comparison, look), *cause_lines(comparison, look), *following]
    steps = comparison.steps
    lines += [line for step in steps[-1:] for line in ("", *step_lines(step, comparison, look))]
    lines += ["", *ladder(comparison, look), *afterwards(comparison, look)]
    lines += [line for step in steps[:-1] for line in ("", *step_lines(step, comparison, look))]
    return [*lines, "", *share_lines(comparison, look)]
