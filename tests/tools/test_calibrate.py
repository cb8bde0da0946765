"""The tool that writes ranges.csv and domain.csv: a table of cases becomes left-out errors, ranges and a domain."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from advisor.profiles.evidence import FOLDER
from advisor.validation.cases import COLUMNS
from tools import calibrate
from tools.source_ranges import read_errors, stretch_of

SETTING = {
    "hardware": "h100-sxm", "devices": "1", "tp": "1", "pp": "1", "engine": "vllm", "model": "meta-llama/Meta-Llama-3.1-8B",
    "weights": "bf16", "prompt_tokens": "512", "output_tokens": "64", "load": "closed",
}  # fmt: skip


def write(path: Path, columns: tuple[str, ...], rows: Sequence[Mapping[str, object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def tables(folder: Path, name: str, metrics: list[str], sources: int) -> tuple[Path, Path]:
    """Cases and predictions that are 1, 2, ... % too high, a source for each percent."""
    cases, rows = [], []
    for index in range(20 * sources):
        metric, source = metrics[index % len(metrics)], index // 20
        key = {"case_id": f"{name}{index}", "metric": metric}
        cases.append(SETTING | key | {"value": 100, "concurrency": 1 + index, "source": f"lab{source}/{name} page{index % 3}.md"})
        rows.append(key | {"predicted": 101 + source})
    return write(folder / f"{name}.csv", COLUMNS, cases), write(folder / f"{name}-rows.csv", ("case_id", "metric", "predicted"), rows)


def test_two_tables_become_ranges_and_a_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ranges = write(
        tmp_path / "ranges.csv",
        calibrate.RANGE_COLUMNS,
        [{"metric": "tpot", "basis": "profiled", "below": 0.9, "above": 1.1, "comparisons": 21}],
    )
    fitted, fitted_rows = tables(tmp_path, "fitted", ["tpot_ms", "peak_memory_gb"], 3)
    external, external_rows = tables(tmp_path, "external", ["ttft_ms", "output_tok_s_total"], 4)
    held_out = write(
        tmp_path / "held-out.csv", ("case_id", "metric", "predicted"), [{"case_id": "fitted0", "metric": "tpot_ms", "predicted": 80}]
    )
    words = [fitted, fitted_rows, held_out, external, external_rows, "--out", tmp_path, "--left-out", tmp_path / "left-out.csv"]
    monkeypatch.setattr(sys, "argv", ["calibrate", *map(str, words)])
    calibrate.main()
    with ranges.open(encoding="utf-8", newline="") as file:
        lines = {(row["metric"], row["basis"], row["stratum"]): row for row in csv.DictReader(file)}
    assert lines["tpot", "profiled", ""]["above"] == "1.1", "a profile is of its own machine"
    assert (lines["ttft", "datasheet", ""]["comparisons"], lines["ttft", "datasheet", ""]["sources"]) == ("40", "4")
    assert lines["tpot", "datasheet", ""]["comparisons"] == "1", "of the fitted sources only what was predicted without them"
    assert float(lines["throughput", "datasheet", ""]["below"]) < 1
    domain = (tmp_path / "domain.csv").read_text(encoding="utf-8").splitlines()
    assert "in_flight,,1,80,140" in domain
    assert "engine,vllm,,,140" in domain
    assert "ttft_ms" in capsys.readouterr().err


def test_shipped_ranges_are_those_of_the_stored_errors() -> None:
    with (FOLDER / "ranges.csv").open(encoding="utf-8", newline="") as file:
        shipped = [tuple(row.values()) for row in csv.DictReader(file) if row["sources"]]
    assert shipped == [tuple(map(str, line)) for line in calibrate.time_lines(read_errors())]
    assert stretch_of(read_errors()) > 1
