"""One estimator, one serialiser: what the session saves is what `advisor plan` saves for the same question."""

from pathlib import Path

import pytest

from advisor.cli.main import main
from advisor.planfile.store import save_plan
from advisor.profiles.errors import ExitCode
from advisor.tui.form.values import FormValues
from advisor.tui.workers.planning_client import PlanningClient

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
QUESTIONS = {
    "limits as people write them": FormValues(
        {"model": LLAMA, "hardware": "rtx-4090", "context": "8k", "ttft_ms": "0.5s", "tpot_ms": "30", "memory_gib": "22GB"}
    ),
    "nothing fits": FormValues({"model": LLAMA, "hardware": "rtx-4090", "tpot_ms": "0.1"}),
    "an open load, forced techniques": FormValues(
        {"model": LLAMA, "hardware": "h100-sxm", "request_rate": "30/min", "prefer": "throughput"}, ("kv-int8",), ("weights-int4",)
    ),
    "a technique with an option": FormValues({"model": "demo", "hardware": "h100-sxm", "concurrency": "2"}, ("kv-window:window=128",)),
    "this machine": FormValues({"model": "demo", "prefer": "memory"}),
}


@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_the_session_saves_the_bytes_of_the_command_line(asked: FormValues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    main(["plan", *asked.words(), "-o", str(tmp_path / "cli.yaml"), "--quiet"])
    client = PlanningClient()
    client.answer(asked.with_text("tpot_ms", "17"))  # a client that has answered others answers the same
    planned = client.answer(asked)
    assert planned is not None
    save_plan(client.plan_file(asked, planned.advice), tmp_path / "session.yaml")
    assert (tmp_path / "session.yaml").read_bytes() == (tmp_path / "cli.yaml").read_bytes()


def test_what_is_known_at_once_is_of_the_limits_asked_and_says_that_it_is_not_the_answer() -> None:
    client, asked = PlanningClient(), QUESTIONS["nothing fits"].with_text("tpot_ms", "30")
    assert client.preview(asked) is None  # stacks have to be priced first
    client.answer(asked)
    tighter = asked.with_text("tpot_ms", "5")
    sketched = client.preview(tighter)
    assert sketched is not None
    assert not sketched.final
    assert sketched.advice.request.limits.tpot_ms_p95 == 5
    assert any(not plan.simulated for plan in sketched.alternatives)
    answer = client.answer(tighter)
    assert answer is not None
    assert answer.final
    assert client.answer(tighter, abandoned=lambda: True) is None


def test_an_answer_that_is_abandoned_half_way_leaves_the_next_one_whole() -> None:
    asked, calls = QUESTIONS["limits as people write them"], iter([False] * 40)
    client = PlanningClient()
    assert client.answer(asked, lambda: next(calls, True)) is None
    assert next(calls, None) is None, "it was asked often enough to end in the middle of a simulation"
    whole, fresh = client.answer(asked), PlanningClient().answer(asked)
    assert whole is not None
    assert fresh is not None
    assert whole.advice == fresh.advice


@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_any_plan_that_the_session_can_save_the_command_line_can_choose(
    asked: FormValues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    client = PlanningClient()
    planned = client.answer(asked)
    assert planned is not None
    for place, alternative in enumerate((planned.alternatives[0], planned.alternatives[1], planned.alternatives[-1])):
        advice = client.advice_for(planned, alternative.id)
        assert advice is not None
        plan = client.plan_file(asked, advice)
        save_plan(plan, tmp_path / f"session-{place}.yaml")
        for choose in (alternative.id, plan.id):
            main(["plan", *asked.words(), "--choose", choose, "-o", str(tmp_path / "cli.yaml"), "--quiet"])
            assert (tmp_path / "cli.yaml").read_bytes() == (tmp_path / f"session-{place}.yaml").read_bytes()


def test_a_plan_that_is_not_there_is_answered_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", *QUESTIONS["nothing fits"].words(), "--choose", "plan-00000000"]
    assert main(words) == ExitCode.USAGE
    assert "--choose with one of the frontier: plan-" in " ".join(capsys.readouterr().err.split())
