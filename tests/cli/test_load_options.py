"""Loads on the command line: bursts, traces and rates, in estimate and plan, and back from a plan file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advisor.planfile.check import check_decision, replan_command
from advisor.planfile.file import request_of
from advisor.planfile.store import read_plan
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
Run = Callable[..., Any]
TRACE = "arrival_s,prompt_tokens,output_tokens\n0,300,20\n0.5,100,40\n0.9,200,30\n"


FORBIDDEN = ("weights-int4", "weights-int8", "kv-int4", "kv-int8", "decode-draft", "decode-prompt-lookup")
"""So that a plan takes a moment: what is claimed here does not depend on them."""


@pytest.fixture
def trace(tmp_path: Path) -> str:
    file = tmp_path / "trace.csv"
    file.write_text(TRACE, encoding="utf-8")
    return str(file)


def estimate(advisor: Run, *options: str) -> Any:
    return advisor("estimate", LLAMA, "--hardware", "h100-sxm", "--engine", "vllm", "--json", *options)


def plan(advisor: Run, *options: str) -> Any:
    return advisor("plan", LLAMA, "--hardware", "h100-sxm", *(word for name in FORBIDDEN for word in ("--forbid", name)), *options)


def test_estimate_serves_a_burst(advisor: Run) -> None:
    metrics = estimate(advisor, "--prompt-tokens", "512", "--output-tokens", "64", "--burst", "100").data["metrics"]
    assert metrics["ttft_ms_p99"]["value"] > metrics["ttft_ms_p50"]["value"]
    assert "request_rate_per_s" not in metrics


def test_estimate_serves_a_trace_and_counts_what_keeps_the_limits(advisor: Run, trace: str) -> None:
    metrics = estimate(advisor, "--load-trace", trace, "--ttft-ms", "500", "--tpot-ms", "50").data["metrics"]
    assert 0 < metrics["goodput_per_s"]["value"] <= 2 / 0.9
    assert metrics["e2e_ms_p99"]["value"] > metrics["ttft_ms_p99"]["value"]


def test_a_rate_above_the_sustainable_one_is_a_miss_that_names_the_sustainable_rate(advisor: Run) -> None:
    ended = plan(advisor, "--request-rate", "200", "--error-format", "json")
    assert ended.code == ExitCode.NO_PLAN
    assert any(note.startswith("the binding limit is request_rate_per_s: ") for note in ended.error["notes"])
    way_out = next(line for line in ended.error["help"] if line.startswith("allow --request-rate "))
    lasting = float(way_out.split()[2])
    assert 1 < lasting < 200
    assert plan(advisor, "--request-rate", f"{lasting * 0.9:.3g}").code == ExitCode.OK


@pytest.mark.parametrize(
    ("options", "load"), [(("--burst", "32"), Load.BURST), (("--request-rate", "2"), Load.OPEN), (("--load-trace",), Load.TRACE)]
)
def test_a_plan_file_keeps_its_load(advisor: Run, trace: str, tmp_path: Path, options: tuple[str, ...], load: Load) -> None:
    file = tmp_path / "plan.yaml"
    given = (*options, trace) if load is Load.TRACE else options
    assert plan(advisor, *given, "-o", str(file)).code == ExitCode.OK
    request = request_of(read_plan(file))
    assert request.workload.load is load
    assert request.workload.concurrency == (32 if load is Load.BURST else None)
    assert request.limits.bound("request_rate_per_s") == (2 if load is Load.OPEN else None)
    if request.workload.trace is not None:
        assert [request_in_trace.prompt_tokens for request_in_trace in request.workload.trace.requests] == [300, 100, 200]


def test_a_plan_whose_trace_is_missing_is_an_error(advisor: Run, trace: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    plan(advisor, "--load-trace", trace, "-o", str(file))
    Path(trace).unlink()
    with pytest.raises(AdvisorError, match="cannot be read") as raised:
        request_of(read_plan(file))
    assert raised.value.code == "bad-trace"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--burst", "4", "--concurrency", "2"), "--concurrency and --burst exclude each other"),
        (("--load-trace", "x.csv", "--request-rate", "2"), "--request-rate and --load-trace exclude each other"),
        (("--load-trace", "x.csv", "--prompt-tokens", "2"), "--prompt-tokens and --load-trace exclude each other"),
        (("--load-trace", "/nowhere/x.csv"), "/nowhere/x.csv: cannot be read: no such file or directory"),
    ],
)
def test_loads_that_contradict_or_cannot_be_read_are_refused(advisor: Run, options: tuple[str, ...], message: str) -> None:
    for ended in (plan(advisor, *options, "--error-format", "json"), estimate(advisor, *options, "--error-format", "json")):
        assert ended.code != ExitCode.OK
        assert ended.error["message"] == message


def test_estimate_needs_lengths_or_a_trace(advisor: Run) -> None:
    ended = estimate(advisor, "--prompt-tokens", "512", "--error-format", "json")
    assert (ended.code, ended.error["message"]) == (ExitCode.USAGE, "missing --output-tokens")


def test_a_context_shorter_than_the_longest_request_is_refused(advisor: Run, trace: str) -> None:
    ended = plan(advisor, "--load-trace", trace, "--context", "256", "--error-format", "json")
    assert ended.code == ExitCode.USAGE
    assert "has 320 tokens, the context 256" in ended.error["message"]


def test_a_shared_prefix_is_written_to_the_plan_and_read_from_it(advisor: Run, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    options = ("--prompt-tokens", "2048", "--output-tokens", "128", "--concurrency", "16", "--shared-prefix", "1.5k")
    plan(advisor, *options, "--require", "kv-prefix-reuse", "--offline", "--profile=none", "-o", str(file))
    saved = read_plan(file)
    assert request_of(saved).workload.shared_prefix_tokens == saved.limits.shared_prefix_tokens == 1536
    assert saved.apply.kv_cache.prefix_reuse is True
    assert "--shared-prefix 1536" in replan_command(saved)
    check_decision(saved, find_model(LLAMA))


def test_a_shared_prefix_shortens_the_time_to_first_token(advisor: Run) -> None:
    options = ("--prompt-tokens", "2048", "--output-tokens", "128", "--concurrency", "8")
    alone, shared = (estimate(advisor, *options, *more).data["metrics"] for more in ((), ("--shared-prefix", "1800")))
    assert shared["ttft_ms_mean"]["value"] < 0.7 * alone["ttft_ms_mean"]["value"]
    assert shared["prefix_hits"]["value"] > 0.5
    assert "prefix_hits" not in alone


def test_a_prefix_longer_than_the_prompt_is_refused(advisor: Run) -> None:
    ended = estimate(advisor, "--prompt-tokens", "512", "--output-tokens", "64", "--shared-prefix", "600", "--error-format", "json")
    assert ended.code == ExitCode.USAGE
    assert "prompts of 512 tokens cannot begin with 600" in ended.error["message"]
