"""A run tells how fast the processor ran against when it was profiled, and says so where that explains misses."""

import pytest

from advisor.feedback.compare import compare
from advisor.profiles.run import Run
from advisor.rendering.text.comparison import comparison_dict, comparison_text
from advisor.rendering.text.run import pace_words, run_text
from tests.paths import ROOT

RUN = Run.model_validate_json((ROOT / "tests/canned/run.json").read_text(encoding="utf-8"))


def paced(run: Run, profiled_s: float | None, served_s: float) -> Run:
    rungs = tuple(rung.model_copy(update={"pace_s": served_s} if rung.measured else {}) for rung in run.rungs)
    environment = run.environment.model_copy(update={"profiled_pace_s": profiled_s})
    return run.model_copy(update={"environment": environment, "rungs": rungs})


def test_the_pace_of_rungs_is_compared_with_the_profile() -> None:
    run = paced(RUN, 15e-6, 20e-6)
    assert run.paces == pytest.approx([0.75] * sum(rung.measured is not None for rung in RUN.rungs))
    assert "0.750 times its profiled speed" in " ".join(run_text(run).split())


def test_the_comparison_prints_the_pace() -> None:
    comparison = compare(paced(RUN, 15e-6, 20e-6))
    assert "Pace: the processor ran at 0.750 times its profiled speed" in " ".join(comparison_text(comparison).split())
    summary = comparison_dict(comparison)["summary"]
    assert isinstance(summary, dict)
    assert summary["paces"] == pytest.approx([0.75] * len(comparison.paces))


def test_a_run_without_a_profile_or_of_an_earlier_version_has_no_pace() -> None:
    assert paced(RUN, None, 20e-6).paces == ()
    assert RUN.paces == ()
    assert "profiled speed" not in run_text(RUN)


def test_only_a_changed_pace_explains_an_error() -> None:
    explains = "that part of an error comes from the machine, not from the prediction"
    assert not pace_words((0.98, 1.01)).endswith(explains)
    assert pace_words((0.7, 0.74)).endswith(explains)
    assert pace_words((0.8, 1.2)).endswith(explains)
