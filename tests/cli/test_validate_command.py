import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advisor.profiles.errors import ExitCode

Run = Callable[..., Any]
COLUMNS = (
    "case_id,metric,value,hardware,devices,tp,pp,engine,engine_version,model,weights,kv,prompt_tokens,output_tokens,"
    "concurrency,request_rate,load,source,notes"
)
ROW = "canned-1,tpot_ms,10,h100-sxm,1,1,1,vllm,0.19,meta-llama/Meta-Llama-3.1-8B,bf16,bf16,512,64,4,,closed,typed for this test,"


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "cases.csv"
    path.write_text(f"{COLUMNS}\n{ROW}\n{ROW.replace('canned-1', 'canned-2').replace('h100-sxm', 'no-such-card')}\n")
    return path


def test_every_row_is_predicted_or_refused_with_a_reason(advisor: Run, cases: Path, tmp_path: Path) -> None:
    ended = advisor("validate", cases, "--rows", tmp_path / "rows.csv")
    assert ended.code == ExitCode.OK
    assert "tpot_ms" in ended.out
    with (tmp_path / "rows.csv").open() as file:
        first, second = csv.DictReader(file)
    assert list(first) == ["case_id", "metric", "measured", "predicted", "low", "high", "basis", "refused"]
    assert float(first["low"]) <= float(first["predicted"]) <= float(first["high"])
    assert not first["refused"]
    assert "no-such-card" in second["refused"]
    assert not second["predicted"]


def test_the_report_is_also_json(advisor: Run, cases: Path) -> None:
    assert advisor("validate", cases, "--json").data["format"] == "1.0"


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\x00", "case_id,metric,value,hardware,engine,model\n"])
def test_what_is_no_table_of_cases_is_refused(advisor: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(text)
    ended = advisor("validate", path, "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("bad-cases", ExitCode.USAGE)


def test_a_table_that_is_not_there_is_missing(advisor: Run, tmp_path: Path) -> None:
    assert advisor("validate", tmp_path / "cases.csv").code == ExitCode.MISSING
