"""docs/performance.md: no figure without a file, misses said as misses, and the committed page is what the files give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from advisor.profiles.formats import GIB
from benchmarks.harness.record import Environment, Record, Timing, Work
from benchmarks.harness.store import Store
from tools.performance_page import page
from tools.performance_results import read_devices, spread_pct
from tools.performance_tables import tables, time_words
from tools.performance_targets import TARGETS, target_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment() -> Environment:
    import torch

    from benchmarks.harness.environment import read_environment

    here = read_environment(torch.device("cpu"))
    return here.model_copy(
        update={"fingerprint": "gpu:test*1/sm90/drv570", "driver": "570.1", "device": "Test GPU", "dry": False, "commit": "0123456789ab"}
    )


def timing(name: str, seconds: float) -> Timing:
    return Timing(name=name, how="graph", calls=20, seconds=(seconds * 0.9, seconds, seconds * 1.3))


def put_ceiling(store: Store) -> None:
    copy = Record(
        case="copy", status="done", environment=store.environment.id, work={"copy": Work(bytes=4 * GIB)}, timings=(timing("copy", 1e-3),)
    )
    store.put("ceilings", copy)


def put_decode(store: Store, name: str, bf16_s: float, gather_s: float) -> None:
    record = Record(
        case=f"paged-decode/{name}",
        status="done",
        environment=store.environment.id,
        settings={"context": 4097},
        work={"bf16": Work(bytes=GIB)},
        timings=(timing("bf16", bf16_s), timing("gather-sdpa", gather_s), Timing(name="flex", how="missing", why="no compiler")),
    )
    store.put("kernels", record)


def line_of(text: str, words: str) -> str:
    (line,) = [line for line in text.splitlines() if words in line]
    return line


def test_without_files_every_target_is_not_measured(tmp_path: Path) -> None:
    rows = list(target_rows(read_devices(tmp_path)))
    assert len(rows) == len(TARGETS)
    assert all(row[3:] == ("", "not measured") for row in rows)
    text = tables((), None)
    assert "Nothing here was measured on a GPU" in text
    assert "make kernels" in text


def test_shares_and_ratios_are_judged_by_the_worst_and_the_median_is_shown(tmp_path: Path, environment: Environment) -> None:
    store = Store(tmp_path / "gpu", environment)
    put_ceiling(store)
    put_decode(store, "a", 0.25e-3, 0.5e-3)
    put_decode(store, "b", 0.5e-3, 0.6e-3)
    text = tables(read_devices(tmp_path), None)
    share = line_of(text, "bf16 cache (of 256 MiB")
    assert "| Test GPU | median 75 %, worst 50 % (paged-decode/b) | **met in 1 of 2** |" in share
    assert "median 1.60 x, worst 1.20 x (paged-decode/b) | **met in 1 of 2**" in line_of(text, "over gather and SDPA")
    assert "| GPU |  | not measured |" in line_of(text, "over compiled flex")
    assert "Nothing here was measured on a GPU" not in text
    row = line_of(text, "| paged-decode/a | bf16 | 250 µs")
    assert "| 4295 GB/s | 100 % |" in row
    assert "not measured: no compiler" in line_of(text, "| paged-decode/a | flex |")


def test_a_small_cache_is_not_judged(tmp_path: Path, environment: Environment) -> None:
    store = Store(tmp_path / "gpu", environment)
    put_ceiling(store)
    put_decode(store, "a", 0.25e-3, 0.5e-3)
    (record,) = store.read("kernels").records
    store.put("kernels", record.model_copy(update={"work": {"bf16": Work(bytes=GIB // 8)}}))
    assert "not measured" in line_of(tables(read_devices(tmp_path), None), "bf16 cache (of 256 MiB")


def test_what_was_red_or_died_stands_without_a_figure(tmp_path: Path, environment: Environment) -> None:
    store = Store(tmp_path / "gpu", environment)
    put_decode(store, "a", 0.25e-3, 0.5e-3)
    store.put("kernels", Record(case="paged-decode/a", status="red", environment=environment.id))
    store.put("kernels", Record(case="paged-decode/b", status="started", environment=environment.id))
    text = tables(read_devices(tmp_path), None)
    assert "| kernels/paged-decode/a | a check of its kernel is red |" in text
    assert "| kernels/paged-decode/b | the process died in it |" in text
    assert "µs" not in text


def test_compiled_code_is_shown_with_what_misses_its_budget() -> None:
    code = {
        "kernel": "paged-decode", "variant": "bf16-d128", "architecture": 90, "registers": 168, "shared_bytes": 65536,
        "matrix_instructions": 32, "slots_per_element": 4.05, "problems": [],
    }  # fmt: skip
    text = tables((), {"triton": "3.6.0", "codes": [code, code | {"architecture": 80, "problems": ["spills: 8 bytes of stack"]}]})
    assert "| paged-decode | bf16-d128 | sm_90 | 168 | 65536 | 32 | 4.05 | kept |" in text
    assert "**missed**: spills" in line_of(text, "sm_80")


def test_quality_is_shown_with_its_range(tmp_path: Path, environment: Environment) -> None:
    assert "Not measured yet" in tables((), None)
    store = Store(tmp_path / "cpu", environment)
    values = {"perplexity": 13.0, "kl_divergence": 0.0021, "kl_divergence_low": 0.002, "kl_divergence_high": 0.0023}
    store.put("quality", Record(case="kv-int4", status="done", environment=environment.id, values=values))
    assert "| kv-int4 | Test GPU | 13 |  | 2.1 [2, 2.3] |  |" in tables(read_devices(tmp_path), None)


@pytest.mark.parametrize(("seconds", "words"), [(2.0, "2 s"), (0.0123, "12.3 ms"), (4.2e-6, "4.2 µs"), (5e-8, "0.05 µs")])
def test_times_have_the_unit_that_suits_them(seconds: float, words: str) -> None:
    assert time_words(seconds) == words


def test_the_spread_is_that_of_the_middle_samples() -> None:
    assert spread_pct((1.0, *[2.0] * 20, 9.0)) == 0
    assert spread_pct((1.0, 1.0, 2.0, 3.0, 3.0)) == pytest.approx(50)


def test_the_page_has_answers_and_names_what_was_not_measured_in_a_sentence(tmp_path: Path, environment: Environment) -> None:
    store = Store(tmp_path / "cpu", environment)
    values = {"tpot_ms_error": -0.2, "throughput_tok_s_error": 0.1}
    store.put("stacks", Record(case="demo baseline", status="done", environment=environment.id, values=values))
    text = page(read_devices(tmp_path))
    assert "| TPOT 20.0 % (median of 1 stacks), throughput 10.0 % (median of 1 stacks) | Test GPU |" in text
    (sentence,) = [line for line in text.splitlines() if line.startswith("Not measured: ") and "?" in line]
    assert "transformers' continuous batching?" in sentence
    assert "How far off" not in sentence
    assert "not measured |" not in text
    assert f"{sum(target.on == 'cpu' for target in TARGETS)} on a CPU" in text


def test_records_of_a_commit_with_uncommitted_changes_give_no_figure(tmp_path: Path, environment: Environment) -> None:
    dirty = environment.model_copy(update={"commit": "0123456789ab-dirty"})
    store = Store(tmp_path / "gpu", dirty)
    put_decode(store, "a", 0.25e-3, 0.5e-3)
    assert read_devices(tmp_path) == ()


def test_the_committed_page_is_what_the_committed_results_give() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.performance_page", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
