"""The tool behind docs/accuracy.md: what makes the page stale, and that it says plainly what is wrong."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from advisor.profiles.engines import load_engine, shipped_engines
from advisor.profiles.metrics import Basis, Value
from advisor.validation.cases import read_cases
from advisor.validation.errors import ComparedCase
from advisor.validation.report import report_of
from tools.accuracy_coverage import stale_words

PATH = Path(__file__).resolve().parents[2] / "tools" / "accuracy_page.py"
_SPEC = importlib.util.spec_from_file_location("accuracy_page", PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
tool = importlib.util.module_from_spec(_SPEC)
sys.modules["accuracy_page"] = tool
_SPEC.loader.exec_module(tool)


def meaning(tmp_path: Path, name: str, text: str) -> bytes:
    path = tmp_path / name
    path.write_text(text)
    described: bytes = tool._meaning(path)
    return described


def test_code_that_runs_the_same_means_the_same(tmp_path: Path) -> None:
    plain = meaning(tmp_path, "a.py", "X = 1\ndef f():\n    return X\n")
    assert plain == meaning(tmp_path, "a.py", '"""Said."""\nX = 1  # why\n\n\ndef f():\n    """Said."""\n    return (X)\n')
    assert plain != meaning(tmp_path, "a.py", "X = 2\ndef f():\n    return X\n")
    assert meaning(tmp_path, "a.csv", "1") != meaning(tmp_path, "a.csv", "2")


def test_every_pattern_finds_files() -> None:
    for pattern in tool.DEPENDS_ON:
        assert list(tool.ROOT.glob(pattern)), pattern


def test_a_page_without_or_with_another_fingerprint_is_not_current() -> None:
    assert not tool.is_current("# Accuracy")
    assert not tool.is_current(f"<!-- fingerprint {'0' * 64} -->")
    assert tool.is_current(f"<!-- fingerprint {tool.fingerprint()} -->")


def test_a_constant_that_was_fitted_is_counted_once() -> None:
    for name in shipped_engines():
        engine = load_engine(name)
        fitted = list(tool._constants_of(engine)).count("fitted")
        if engine.gpu.source.startswith("fitted"):
            assert fitted == tool._set_constants(engine.gpu, frozenset(type(engine.gpu).model_fields)) > 0
        elif "medians over" not in engine.gpu.source + engine.cpu.source:
            assert fitted == 0 or engine.cpu.source.startswith("fitted")


@pytest.mark.parametrize(("predicted", "said"), [(15.0, "one-sided: predicted too high"), (6.0, "one-sided: predicted too low")])
def test_the_page_names_the_worst_group_and_why(tmp_path: Path, predicted: float, said: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(
        "case_id,metric,value,hardware,engine,model,weights,prompt_tokens,output_tokens,concurrency,load,source\n"
        "a,tpot_ms,10,h100-sxm,vllm,meta-llama/Meta-Llama-3.1-8B,bf16,512,64,4,closed,typed | for this test\n"
    )
    (case,) = read_cases(path)
    value = Value(value=predicted, low=1, high=100, basis=Basis.DATASHEET)
    compared = [ComparedCase(replace(case, case_id=str(i)), value, "dense", "") for i in range(12)]
    page = tool.page(report_of("cases.csv", compared), compared, compared)
    (line,) = [line for line in page.splitlines() if line.startswith("| tpot_ms | vllm, h100-sxm, dense | 12 |")]
    assert said in line
    assert "basis datasheet" in line
    assert "| **missed** |" in page
    off = f"{abs(predicted / 10 - 1):.1%}".replace("%", " %")
    assert page.index("## What it means for you") < page.index(f"| TPOT | {off} | {off} |") < page.index("## How to read the rest")
    assert tool.is_current(page)
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_a_page_says_that_stored_errors_are_of_an_earlier_estimator(tmp_path: Path) -> None:
    path = tmp_path / "left-out.csv"
    path.write_text("case_id,metric,table,source,measured,predicted\na,tpot_ms,external,s,10,12\nb,tpot_ms,fitted,s,10,12\n")
    cases = tmp_path / "cases.csv"
    cases.write_text("case_id,metric,value,hardware,engine,model,weights\na,tpot_ms,10,h100-sxm,vllm,meta-llama/Meta-Llama-3.1-8B,bf16\n")
    (case,) = read_cases(cases)
    said = {}
    for predicted in (12.05, 13.0):
        value = Value(value=predicted, low=1, high=100, basis=Basis.CATALOGUE)
        said[predicted] = list(stale_words([ComparedCase(case, value, "dense", "")], path))
    assert said[12.05] == []
    assert "1 of 1 predictions of external sources moved by more than 1 %" in said[13.0][0]
