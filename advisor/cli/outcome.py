"""The exit code of a command that shows a run, and the error for a failed rung or a missed limit."""

from typing import TYPE_CHECKING

from advisor.profiles.errors import AdvisorError, ExitCode

if TYPE_CHECKING:  # loaded by the commands that have a run
    from advisor.feedback.compare import Comparison


def conclude(comparison: "Comparison", *, strict: bool = False) -> ExitCode:
    """`OK`, or raise what is wrong with the run after it was shown.

    Raises `AdvisorError`: `rung-failed` when a process died (exit code 7), `limit-missed` when the full stack was measured beyond
    a limit (5), `range-missed` when, `strict`, a value left its predicted range (5).
    """
    code = comparison.exit_code(strict=strict)
    problems = tuple(f"{step.name}: {step.problem or step.status.value}" for step in comparison.rungs if step.status.value != "done")
    if problems:
        raise AdvisorError(
            "rung-failed",
            f"{len(problems)} of {len(comparison.rungs)} rungs did not finish; what the others measured is kept",
            exit_code=ExitCode.DIED,
            notes=problems,
            help=("advisor apply with the same --out measures only what is missing",),
        )
    if code is ExitCode.LIMIT_MISSED and comparison.limits_missed:
        raise AdvisorError("limit-missed", "a measured value misses a limit", exit_code=code, notes=_missed(comparison))
    if code is not ExitCode.OK:
        raise AdvisorError("range-missed", "a measured value is outside its predicted range", exit_code=code)
    return code


def _missed(comparison: "Comparison") -> tuple[str, ...]:
    from advisor.quantities.formatting import number
    from advisor.quantities.metrics import METRICS

    return tuple(
        f"{line.metric}: measured {number(line.measured.value)} {METRICS[line.metric].unit}, limit {number(line.limit, trim=True)}"
        for line in comparison.limits_missed
        if line.measured is not None and line.limit is not None
    )
