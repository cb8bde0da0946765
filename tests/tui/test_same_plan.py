"""The terminal interface saves the plan files that `advisor plan` saves for the same question."""

from pathlib import Path

import pytest

from advisor.cli.main import main
from advisor.planfile.store import save_plan
from advisor.profiles.errors import ExitCode
from advisor.tui.form.values import FormValues
from advisor.tui.workers.planning_client import PlanningClient
from tests.paths import ROOT

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
SHORT = {"context": "256", "prompt_tokens": "64", "output_tokens": "16"}
QUESTIONS = {
    "limits as people write them": FormValues(
        {"model": LLAMA, "hardware": "rtx-4090", "context": "8k", "ttft_ms": "0.5s", "tpot_ms": "30", "memory_gib": "22GB"}
    ),
    "nothing fits": FormValues({"model": LLAMA, "hardware": "rtx-4090", "tpot_ms": "0.1"}),
    "an open load, forced techniques": FormValues(
        {"model": LLAMA, "hardware": "h100-sxm", "request_rate": "30/min", "prefer": "throughput"} | SHORT, ("kv-int8",), ("weights-int4",)
    ),
    "a technique with an option": FormValues(
        {"model": "demo", "hardware": "h100-sxm", "concurrency": "2"} | SHORT, ("kv-window:window=128",)
    ),
    "a profile": FormValues({"model": "demo", "prefer": "memory", "profile": str(ROOT / "tests/canned/profile.yaml")} | SHORT),
}


@pytest.mark.parametrize("values", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_a_saved_plan_has_the_bytes_of_the_command_line(values: FormValues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    main(["plan", *values.words(), "-o", str(tmp_path / "cli.yaml"), "--quiet"])
    client = PlanningClient()
    client.answer(values.with_text("tpot_ms", "17"))  # a client with cached prices answers the same
    planned = client.answer(values)
    assert planned is not None
    save_plan(client.plan_file(values, planned.advice), tmp_path / "tui.yaml")
    assert (tmp_path / "tui.yaml").read_bytes() == (tmp_path / "cli.yaml").read_bytes()


def test_what_is_known_at_once_is_of_the_limits_asked_and_says_that_it_is_not_the_answer() -> None:
    client, values = PlanningClient(), QUESTIONS["nothing fits"].with_text("tpot_ms", "30")
    assert client.preview(values) is None  # stacks have to be priced first
    client.answer(values)
    tighter = values.with_text("tpot_ms", "5")
    sketched = client.preview(tighter)
    assert sketched is not None
    assert not sketched.final
    assert sketched.advice.request.limits.bound("tpot_ms_p95") == 5
    assert any(not plan.simulated for plan in sketched.alternatives)
    answer = client.answer(tighter)
    assert answer is not None
    assert answer.final
    assert client.answer(tighter, abandoned=lambda: True) is None


def test_an_answer_that_is_abandoned_half_way_leaves_the_next_one_whole() -> None:
    values, calls = QUESTIONS["limits as people write them"], iter([False] * 40)
    client = PlanningClient()
    assert client.answer(values, lambda: next(calls, True)) is None
    assert next(calls, None) is None, "too few checks for the end to be in the middle of a simulation"
    whole, fresh = client.answer(values), PlanningClient().answer(values)
    assert whole is not None
    assert fresh is not None
    assert whole.advice == fresh.advice


CHOSEN = [pytest.param(values, marks=[pytest.mark.slow] if "load" in name else [], id=name) for name, values in QUESTIONS.items()]


@pytest.mark.parametrize("values", CHOSEN)
def test_the_command_line_can_choose_every_plan_of_the_table(values: FormValues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    client = PlanningClient()
    planned = client.answer(values)
    assert planned is not None
    for number, alternative in enumerate((planned.alternatives[0], planned.alternatives[1], planned.alternatives[-1])):
        advice = client.advice_for(planned, alternative.id)
        assert advice is not None
        plan = client.plan_file(values, advice)
        save_plan(plan, tmp_path / f"tui-{number}.yaml")
        for choose in {alternative.id, plan.id} if number == 0 else {alternative.id}:
            main(["plan", *values.words(), "--choose", choose, "-o", str(tmp_path / "cli.yaml"), "--quiet"])
            assert (tmp_path / "cli.yaml").read_bytes() == (tmp_path / f"tui-{number}.yaml").read_bytes()


def test_a_plan_that_is_not_there_is_answered_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", *QUESTIONS["nothing fits"].words(), "--choose", "plan-00000000"]
    assert main(words) == ExitCode.USAGE
    assert "--choose with an id of the frontier: plan-" in " ".join(capsys.readouterr().err.split())
