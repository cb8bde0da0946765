"""Traces of requests: two notations, one meaning, and an error with its line for everything else."""

from pathlib import Path

import pytest

from advisor.planning.question import workload_of
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.request import Load, Workload
from advisor.profiles.trace import read_trace

CSV = "arrival_s,prompt_tokens,output_tokens,who\n7.5,300,20,b\n5.0,100,40,a\n"
JSON_LINES = (
    '{"arrival_s": 7.5, "prompt_tokens": 300, "output_tokens": 20}\n\n{"arrival_s": 5, "prompt_tokens": 100, "output_tokens": 40}\n'
)


def written(folder: Path, text: str) -> Path:
    file = folder / "trace.txt"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("text", [CSV, JSON_LINES])
def test_requests_are_put_in_order_from_the_first_arrival(tmp_path: Path, text: str) -> None:
    trace = read_trace(written(tmp_path, text))
    assert [(item.arrival_s, item.prompt_tokens, item.output_tokens) for item in trace.requests] == [(0.0, 100, 40), (2.5, 300, 20)]
    assert (trace.prompt_tokens, trace.output_tokens, trace.longest_tokens, trace.rate_per_s) == (200, 30, 320, 0.4)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no column arrival_s, prompt_tokens, output_tokens"),
        ("arrival_s,prompt_tokens\n1,2\n", "no column output_tokens"),
        ("arrival_s,prompt_tokens,output_tokens\n", "it holds no request"),
        ("arrival_s,prompt_tokens,output_tokens\n1,2,3\n1,two,3\n", "line 3: prompt_tokens is `two`, not a count of tokens, 1 or more"),
        ("arrival_s,prompt_tokens,output_tokens\n1,2,0\n", "line 2: output_tokens is `0`, not a count"),
        ("arrival_s,prompt_tokens,output_tokens\n-1,2,3\n", "line 2: arrival_s is `-1`, not seconds, 0 or more"),
        ("arrival_s,prompt_tokens,output_tokens\nnan,2,3\n", "line 2: arrival_s is `nan`"),
        ("arrival_s,prompt_tokens,output_tokens\n1,2\n", "line 2: output_tokens is missing"),
        ('{"arrival_s": 1}\n', "line 1: prompt_tokens is missing"),
        ('{"arrival_s": 1\n', "line 1 is not JSON"),
        ('{"arrival_s": 1, "prompt_tokens": 2, "output_tokens": 3}\n[1]\n', "line 2 is not a JSON object"),
    ],
)
def test_a_bad_trace_is_reported_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(AdvisorError) as raised:
        read_trace(file)
    assert raised.value.code == "bad-trace"
    assert raised.value.exit_code is ExitCode.USAGE
    assert raised.value.message.startswith(f"{file}: {problem}")


def test_a_trace_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(AdvisorError) as raised:
        read_trace(tmp_path / "none.csv")
    assert (raised.value.code, raised.value.exit_code) == ("bad-trace", ExitCode.MISSING)


def test_a_workload_of_a_trace_has_its_means_and_its_longest_request(tmp_path: Path) -> None:
    workload = workload_of(1, 1, trace=read_trace(written(tmp_path, CSV)))
    assert (workload.load, workload.prompt_tokens, workload.output_tokens) == (Load.TRACE, 200, 30)
    assert (workload.longest_tokens, workload.arrivals_per_s) == (320, 0.4)


def test_a_trace_and_its_load_go_together() -> None:
    with pytest.raises(ValueError, match="a trace is the load"):
        Workload(prompt_tokens=1, output_tokens=1, load=Load.TRACE)
    with pytest.raises(ValueError, match="a burst needs concurrency"):
        Workload(prompt_tokens=1, output_tokens=1, load=Load.BURST)
