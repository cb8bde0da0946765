"""The comparison over the decoder architectures of transformers: none is wrong, none is missing, and the page says what was found."""

from __future__ import annotations

import pytest

from tools.architecture_comparison import Finding, read_findings
from tools.architectures_page import PAGE, page, pinned_version

SAMPLE = {
    "llama": ("plain", "longrope", "longrope short", "dynamic", "dynamic short"),
    "phi3": ("longrope", "longrope short"),
    "qwen2_moe": ("use_sliding_window: true",),
    "ministral3": ("yarn",),
    "mellum": ("plain",),
    "bart": ("plain",),
    "bert": ("plain", "is_decoder: true"),
    "moshi": ("plain",),
    "gpt_neox": ("plain",),
}


def test_no_architecture_is_wrong() -> None:
    assert [finding for finding in read_findings() if finding.verdict == "wrong"] == []


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read_findings())


def test_every_decoder_architecture_of_the_pinned_transformers_was_compared() -> None:
    from importlib.metadata import version

    from tools.architecture_configs import architectures

    if version("transformers") != pinned_version():
        pytest.skip("the findings are those of another transformers")
    assert {finding.architecture for finding in read_findings()} == set(architectures())


def test_a_wrong_variant_is_not_lost_among_right_ones() -> None:
    findings = [Finding("x", "X", "plain", "right"), Finding("x", "X", "yarn", "wrong", "request 2 served plain")]
    text = page(findings)
    assert "| `x` | X | right | 1 wrong | request 2 served plain |" in text
    assert "| all variants | 1 | 0 | 1 | 0 |" in text


@pytest.mark.parametrize("architecture", SAMPLE)
def test_a_sample_gives_its_own_tokens_or_is_refused_as_the_findings_say(architecture: str) -> None:
    from tools.architecture_comparison import findings_of

    stored = {finding.variant: finding.verdict for finding in read_findings() if finding.architecture == architecture}
    verdicts = {finding.variant: finding.verdict for finding in findings_of(architecture, SAMPLE[architecture])}
    assert verdicts == {variant: stored[variant] for variant in SAMPLE[architecture]}


@pytest.mark.slow
def test_every_architecture_as_it_comes_is_right_or_refused() -> None:
    from tools.architecture_comparison import findings_of
    from tools.architecture_configs import architectures

    wrong = [finding for name in architectures() for finding in findings_of(name, ("plain",)) if finding.verdict == "wrong"]
    assert wrong == []
