"""The commands themselves: they say plainly what they lack, and a trial leaves no figure where figures stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.harness.store import read_results
from tools.performance_results import read_devices

if TYPE_CHECKING:
    from benchmarks.harness.case import Case

ROOT = Path(__file__).parents[2]


KINDS = ("ceilings/*", "kernels/silu-mul/*")
"""What a short trial runs; the slow one runs everything."""


def bench(*words: str, command: str = "gpu", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{command}", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | variables,
    )


def test_without_a_gpu_it_says_so_writes_nothing_and_tells_what_to_do(tmp_path: Path) -> None:

    done = bench("--out", str(tmp_path), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 4
    assert "sees no CUDA device" in done.stderr
    assert "make bench-cpu" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_trial_is_not_let_near_the_results() -> None:
    done = bench("--dry-run")
    assert done.returncode == 2
    assert "a trial's times mean nothing" in done.stderr


def trial(folder: Path, command: str, cases: list[Case], *patterns: str) -> None:
    """Run a trial over the cases, and once more."""
    words = ("--dry-run", "--out", str(folder), *(word for pattern in patterns for word in ("--only", pattern)))
    done = bench(*words, command=command, TRITON_INTERPRET=str(int(command == "gpu")))
    assert done.returncode == 0, done.stderr
    files = [read_results(path) for path in sorted((folder / "dry-run").glob("*.json"))]
    records = {(results.part, record.case): record for results in files for record in results.records}
    assert set(records) == {(case.part, case.name) for case in cases}
    not_done = {key: record.notes for key, record in records.items() if record.status != "done"}
    assert not not_done
    assert all(environment.dry for results in files for environment in results.environments)
    assert read_devices(folder) == (), "a trial's times are no figures"
    again = bench(*words, command=command, TRITON_INTERPRET=str(int(command == "gpu")))
    assert f"0 cases measured, {len(cases)} kept from before" in again.stderr


def test_a_trial_of_the_gpu_benchmark_leaves_whole_records(tmp_path: Path) -> None:
    from benchmarks.gpu import gpu_cases
    from benchmarks.harness.command import chosen

    trial(tmp_path, "gpu", chosen(gpu_cases(dry=True), KINDS), *KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["gpu", "cpu"])
def test_a_trial_of_everything_leaves_whole_records(tmp_path: Path, command: str) -> None:
    from benchmarks.cpu import cpu_cases
    from benchmarks.gpu import gpu_cases

    trial(tmp_path, command, {"gpu": gpu_cases, "cpu": cpu_cases}[command](dry=True))


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_every_case_has_a_name_of_its_own_and_comes_after_what_it_needs(device: str) -> None:
    from advisor.kernels.registry import KERNELS
    from benchmarks.cpu import cpu_cases
    from benchmarks.gpu import gpu_cases

    seen: list[tuple[str, str]] = []
    for case in {"gpu": gpu_cases, "cpu": cpu_cases}[device]():
        assert (case.part, case.name) not in seen
        wanted = {*case.after, *(("checks", name) for name in case.needs if name in {kernel.name for kernel in KERNELS})}
        assert wanted <= set(seen), case.name
        assert 0 < case.seconds < 5 * 60
        seen.append((case.part, case.name))


def test_predictions_are_compared_on_about_thirty_stacks() -> None:
    from benchmarks.cases.stacks import cpu_stacks, gpu_stacks

    for stacks in (cpu_stacks(), gpu_stacks()):
        assert len({stack.name for stack in stacks}) == len(stacks) >= 24


def test_a_pattern_brings_the_checks_that_its_cases_need() -> None:
    from benchmarks.gpu import gpu_cases
    from benchmarks.harness.checks import gpu_checks
    from benchmarks.harness.command import chosen

    names = [f"{case.part}/{case.name}" for case in chosen(gpu_cases(), ["kernels/int4-linear/llama-8b-o-rows1"])]
    assert names == [f"checks/{gpu_checks('int4-linear')[0]}", "kernels/int4-linear/llama-8b-o-rows1"]
