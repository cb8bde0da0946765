"""One estimator, one serialiser: what the session saves is what `advisor plan` saves for the same question."""

from pathlib import Path

import pytest

from advisor.cli.main import main
from advisor.plans.store import save_plan
from advisor.session.asked import Asked
from advisor.session.desk import Desk

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
QUESTIONS = {
    "limits as people write them": Asked(
        {"model": LLAMA, "hardware": "rtx-4090", "context": "8k", "ttft_ms": "0.5s", "tpot_ms": "30", "memory_gib": "22GB"}
    ),
    "nothing fits": Asked({"model": LLAMA, "hardware": "rtx-4090", "tpot_ms": "0.1"}),
    "an open load, forced techniques": Asked(
        {"model": LLAMA, "hardware": "h100-sxm", "request_rate": "30/min", "prefer": "throughput"}, ("kv-int8",), ("weights-int4",)
    ),
    "a technique with an option": Asked({"model": "demo", "hardware": "h100-sxm", "concurrency": "2"}, ("kv-window:window=128",)),
    "this machine": Asked({"model": "demo", "prefer": "memory"}),
}


@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_the_session_saves_the_bytes_of_the_command_line(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    main(["plan", *asked.words(), "-o", str(tmp_path / "cli.yaml"), "--quiet"])
    desk = Desk()
    desk.answer(asked.with_text("tpot_ms", "17"))  # a desk that has answered others answers the same
    planned = desk.answer(asked)
    assert planned is not None
    save_plan(desk.plan_file(asked, planned.advice), tmp_path / "session.yaml")
    assert (tmp_path / "session.yaml").read_bytes() == (tmp_path / "cli.yaml").read_bytes()
