"""`advisor quality` measures techniques by themselves on a model folder and says which heads lose most."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.profiles.errors import ExitCode
from advisor.profiles.quality import QualityReport
from advisor.rendering.text.quality import quality_text
from tests.cli.conftest import Advisor as Run
from tests.paths import ROOT

TECHNIQUES = (
    "kv-int8",
    "kv-int4",
    "kv-window:window=16",
    "attention-sliding-window:window=16",
    "attention-block-sparse:window=16,global-tokens=0,block-tokens=16",
    "kv-window:window=4096",
    "attention-block-sparse",
)


@pytest.fixture(scope="module")
def measured(tiny_model_folder: Path, tiny_text_file: Path) -> subprocess.CompletedProcess[str]:
    """All of them, measured by one run of the command."""
    words = ("--text", str(tiny_text_file), "--tokens", "128", "--json", *(word for name in TECHNIQUES for word in ("--with", name)))
    command = (sys.executable, "-m", "advisor", "quality", str(tiny_model_folder), *words)
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)


@pytest.fixture(scope="module")
def report(measured: subprocess.CompletedProcess[str]) -> QualityReport:
    return QualityReport.model_validate({key: value for key, value in json.loads(measured.stdout).items() if key != "format"})


def test_formats_are_measured_on_any_folder_with_weights(measured: subprocess.CompletedProcess[str], report: QualityReport) -> None:
    assert "attention" in measured.stderr, "progress is printed"
    assert [technique.technique for technique in report.techniques] == [name.partition(":")[0] for name in TECHNIQUES]
    assert all(len(technique.heads) == 2 * 4 for technique in report.techniques)
    eight, four, *_ = report.techniques
    assert 0 < eight.typical < four.typical
    for technique in report.techniques:
        assert technique.metrics.quality_loss_pct is not None
        assert technique.metrics.kl_divergence is not None


def test_the_worst_heads_are_listed_first(report: QualityReport) -> None:
    window = report.model_copy(update={"techniques": report.techniques[2:3]})
    text = quality_text(window, heads=3)
    rows = [line.split() for line in text.splitlines() if line.startswith("layer ")]
    assert len(rows) == 3
    errors = [float(row[4]) for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert "kv-window window=16" in text


def test_what_every_layer_sees_is_measured_like_what_the_cache_keeps(report: QualityReport) -> None:
    evicted, masked, pattern = (technique.typical for technique in report.techniques[2:5])
    assert masked > 0
    assert masked == pytest.approx(evicted, rel=0.05)
    assert pattern > 0


def test_a_window_that_holds_a_whole_stretch_is_said_to_have_dropped_nothing(report: QualityReport) -> None:
    text = " ".join(quality_text(report).split())
    assert "kv-window window=4096 dropped no token: it attends to 4,096 tokens" in text
    assert "attention-block-sparse dropped no token: " in text
    assert "kv-window window=16 dropped" not in text


@pytest.mark.slow
def test_the_command_prints_the_report_as_text(advisor: Run, tiny_model_folder: Path, tiny_text_file: Path) -> None:
    words = ("--with", "kv-window:window=16", "--heads", 3, "-q")
    ended = advisor("quality", tiny_model_folder, "--text", tiny_text_file, "--tokens", 64, "--format", "text", *words)
    assert (ended.code, ended.err) == (0, "")
    assert sum(line.startswith("layer ") for line in ended.out.splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--with", "kv-int3"), "unknown-technique"),
        (("--with", "weights-int8"), "not-measurable"),
        (("--with", "kv-window:window"), "usage"),
        (("--with", "kv-window:size=3"), "technique-option"),
        (("--with", "kv-window:window=0"), "technique-option"),
        (("--with", "kv-sinks:first-tokens=-1"), "technique-option"),
        (("--with", "weights-int4:head=true"), "not-measurable"),
        (("--text", "/nowhere.txt"), "text-not-found"),
    ],
)
def test_what_cannot_be_measured_says_why(advisor: Run, tiny_model_folder: Path, words: tuple[str, ...], code: str) -> None:
    ended = advisor("quality", tiny_model_folder, *words, "--error-format", "json", "-q")
    assert ended.error["code"] == code
    assert ended.code != ExitCode.OK


def test_a_model_without_weights_is_refused(advisor: Run) -> None:
    ended = advisor("quality", "meta-llama/Meta-Llama-3.1-8B", "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("weights-not-found", ExitCode.MISSING)
