"""The page of a validation: whole, self-contained, small, and drawn by a browser. Its numbers were never measured."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from advisor.profiles.metrics import Basis, Value
from advisor.rendering.html.validation_page import page_html, write_page
from advisor.validation.cases import read_cases
from advisor.validation.errors import ComparedCase
from advisor.validation.report import report_of

MOST_BYTES = 2_000_000
ROWS = 5925


def compared(count: int, tmp_path: Path) -> list[ComparedCase]:
    path = tmp_path / "cases.csv"
    path.write_text(
        "case_id,metric,value,hardware,engine,model,weights,prompt_tokens,output_tokens,concurrency,load,source\n"
        "evil</script><b>,tpot_ms,10,h100-sxm,vllm,meta-llama/Meta-Llama-3.1-8B,bf16,512,64,4,closed,typed for this test\n"
        "sil-1,ttft_ms,100,b200-sxm,sglang,deepseek-ai/DeepSeek-V3,fp8,512,64,4,closed,typed for this test\n"
    )
    cases, compared_cases = read_cases(path), []
    for i in range(count):
        measured = 10.0 + 0.731 * i
        predicted = measured * (0.9 + 0.2 * (i % 7) / 6)
        value = Value(value=predicted, low=0.95 * predicted, high=1.1 * predicted, basis=Basis.CATALOGUE)
        compared_cases.append(ComparedCase(replace(cases[i % 2], measured=measured), value, "dense", ""))
    return compared_cases


def points(page: str) -> dict[str, dict[str, list[list[object]]]]:
    text = re.search(r'<script type="application/json" id="points">(.*?)</script>', page, re.DOTALL)
    assert text is not None
    loaded: dict[str, dict[str, list[list[object]]]] = json.loads(text[1])
    return loaded


def test_every_row_is_a_point_with_its_words(tmp_path: Path) -> None:
    rows = compared(10, tmp_path)
    data = points(page_html(report_of("cases.csv", rows), rows))
    assert {metric: len(rows) for metric, rows in data["metrics"].items()} == {"tpot_ms": 5, "ttft_ms": 5}
    first = data["metrics"]["tpot_ms"][0]
    assert first[0] == "evil</script><b>"
    words = list(data["words"])
    assert [words[int(str(index))] for index in first[1:6]] == ["vllm", "h100-sxm", "meta-llama/Meta-Llama-3.1-8B", "dense", "catalogue"]
    assert [float(str(size)) for size in first[6:]] == pytest.approx([10.0, 9.0, 8.55, 9.9])


def test_the_page_refers_to_nothing_and_no_name_ends_its_script(tmp_path: Path) -> None:
    rows = compared(10, tmp_path)
    page = page_html(report_of("cases.csv", rows), rows)
    assert page.count("</script>") == page.count("<script") == 2
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    assert "$" not in page, "a field of the template that was not filled"


def test_as_many_rows_as_are_published_make_a_small_page(tmp_path: Path) -> None:
    rows = compared(ROWS, tmp_path)
    assert len(page_html(report_of("cases.csv", rows), rows).encode()) < MOST_BYTES


def test_nothing_answered_is_a_page_too(tmp_path: Path) -> None:
    refused = [ComparedCase(item.case, None, "", "unknown hardware") for item in compared(3, tmp_path)]
    page = page_html(report_of("cases.csv", refused), refused)
    assert "unknown hardware" in page
    assert "<canvas" not in page


@pytest.mark.slow
def test_a_browser_draws_the_points(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    rows = compared(200, tmp_path)
    page = write_page(report_of("cases.csv", rows), rows, tmp_path / "page.html")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
        f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    drawn = subprocess.run(command, check=True, capture_output=True, timeout=120, text=True).stdout
    assert drawn.count("100 rows: median |error|") == 2, "the page's script writes below each plot what it shows"
