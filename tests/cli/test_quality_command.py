"""`advisor quality` measures techniques by themselves on a model folder and says which heads lose most."""

from pathlib import Path

import pytest

from advisor.profiles.errors import ExitCode
from advisor.profiles.quality import QualityReport
from tests.cli.conftest import Advisor as Run


def test_formats_are_measured_on_any_folder_with_weights(advisor: Run, tiny_model_folder: Path, tiny_text_file: Path) -> None:
    ended = advisor(
        "quality", tiny_model_folder, "--text", tiny_text_file, "--tokens", 128, "--json", "--with", "kv-int8", "--with", "kv-int4"
    )
    assert ended.code == 0, ended.err
    assert "attention" in ended.err, "progress is told"
    report = QualityReport.model_validate({key: value for key, value in ended.data.items() if key != "format"})
    assert [each.technique for each in report.techniques] == ["kv-int8", "kv-int4"]
    assert all(len(each.heads) == 2 * 4 for each in report.techniques)
    eight, four = report.techniques
    assert 0 < eight.typical < four.typical
    for each in report.techniques:
        assert each.metrics.quality_loss_pct is not None
        assert each.metrics.kl_divergence is not None


def test_the_worst_heads_stand_first(advisor: Run, tiny_model_folder: Path, tiny_text_file: Path) -> None:
    ended = advisor(
        "quality", tiny_model_folder, "--text", tiny_text_file, "--tokens", 64, "--with", "kv-window:window=16", "--heads", 3, "-q"
    )
    assert ended.code == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines() if line.startswith("layer ")]
    assert len(rows) == 3
    shares = [float(row[4]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert "kv-window window=16" in ended.out


def test_what_every_layer_sees_is_measured_like_what_the_cache_keeps(advisor: Run, tiny_model_folder: Path, tiny_text_file: Path) -> None:
    chosen = (
        "kv-window:window=16",
        "attention-sliding-window:window=16",
        "attention-block-sparse:window=16,global-tokens=0,block-tokens=16",
    )
    words = [word for each in chosen for word in ("--with", each)]
    ended = advisor("quality", tiny_model_folder, "--text", tiny_text_file, "--tokens", 128, "--json", *words)
    assert ended.code == 0, ended.err
    report = QualityReport.model_validate({key: value for key, value in ended.data.items() if key != "format"})
    kept, seen, pattern = (each.typical for each in report.techniques)
    assert seen > 0
    assert seen == pytest.approx(kept, rel=0.05)
    assert pattern > 0


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


def test_a_window_that_holds_a_whole_stretch_is_said_to_have_dropped_nothing(
    advisor: Run, tiny_model_folder: Path, tiny_text_file: Path
) -> None:
    words = ("--with", "kv-window:window=4096", "--with", "attention-block-sparse", "--with", "kv-window:window=16")
    ended = advisor("quality", tiny_model_folder, "--text", tiny_text_file, "--tokens", 64, "--format", "text", "-q", *words)
    said = " ".join(ended.out.split())
    assert "kv-window window=4096: it dropped no token. It reaches 4,096 tokens" in said
    assert "attention-block-sparse: nothing was dropped." in said
    assert "kv-window window=16: nothing" not in said
