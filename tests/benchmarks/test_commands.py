"""The commands themselves: they say plainly what they lack, and a trial leaves no figure where figures stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import gpu_cases
from benchmarks.harness.command import chosen
from benchmarks.harness.record import Results
from tools.performance_results import read_devices

ROOT = Path(__file__).parents[2]


def gpu(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | variables,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so_writes_nothing_and_tells_what_to_do(tmp_path: Path) -> None:
    done = gpu("--out", str(tmp_path))
    assert done.returncode == 4
    assert "sees no CUDA device" in done.stderr
    assert "make bench-cpu" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_trial_is_not_let_near_the_results() -> None:
    done = gpu("--dry-run")
    assert done.returncode == 2
    assert "a trial's times mean nothing" in done.stderr


def test_a_trial_runs_every_kind_of_case_and_its_times_are_no_figures(tmp_path: Path) -> None:
    done = gpu("--dry-run", "--out", str(tmp_path), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    cases = gpu_cases(dry=True)
    found = [Results.model_validate_json(path.read_text()) for path in sorted((tmp_path / "dry-run").iterdir())]
    records = {(results.part, record.case): record for results in found for record in results.records}
    missing = {(case.part, case.name) for case in cases} - set(records)
    assert not missing
    not_done = {key: record.notes for key, record in records.items() if record.status != "done"}
    assert not not_done
    assert all(environment.dry for results in found for environment in results.environments)
    assert read_devices(tmp_path) == ()
    again = gpu("--dry-run", "--out", str(tmp_path), TRITON_INTERPRET="1")
    assert f"0 cases measured, {len(cases)} kept from before" in again.stderr


def test_a_pattern_brings_the_checks_that_its_cases_need() -> None:
    names = [f"{case.part}/{case.name}" for case in chosen(gpu_cases(), ["kernels/int4-linear/llama-8b-o-rows1"])]
    assert names == ["checks/int4-linear", "kernels/int4-linear/llama-8b-o-rows1"]


def test_every_case_has_a_name_of_its_own_and_the_first_ones_fit_in_nine_minutes() -> None:
    cases = gpu_cases()
    names = [(case.part, case.name) for case in cases]
    assert len(set(names)) == len(names)
    assert [case.part for case in cases[:4]] == ["ceilings"] * 4
    assert all(case.seconds < 9 * 60 for case in cases)
