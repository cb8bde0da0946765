"""Shared by the benchmark commands: options, the device's store, the run and the exit code."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import torch

from advisor.profiles.errors import ExitCode
from benchmarks.harness.case import Bench, Case
from benchmarks.harness.environment import ROOT, folder_name, read_environment
from benchmarks.harness.parts import CHECKS
from benchmarks.harness.runner import DeviceSpoiledError, Outcome, Runner
from benchmarks.harness.store import Store

RESULTS = ROOT / "benchmarks" / "results"
DEADLINE = "BENCHMARK_DEADLINE"
"""Environment variable: the monotonic time at which the budget ends, for the process that continues after a device error."""


def options(doc: str, *, minutes: float) -> argparse.ArgumentParser:
    """The options that every benchmark command takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=minutes, help=f"time budget; cases that do not fit are not started (default {minutes:g})"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder that contains the device's folder")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cases whose part/name matches, as 'kernels/paged-decode*'")
    parser.add_argument("--list", action="store_true", help="print the cases, most important first, and run none")
    parser.add_argument("--retry", action="store_true", help="run again what failed in this environment")
    parser.add_argument("--dry-run", action="store_true", help="try the flow on the CPU with tiny shapes; needs an --out of its own")
    return parser


def chosen(cases: Sequence[Case], patterns: Sequence[str] | None) -> list[Case]:
    """The cases whose part/name matches a pattern, with the checks and cases that they depend on; all without patterns."""
    if not patterns:
        return list(cases)
    selected = {(case.part, case.name) for case in cases if any(fnmatch(f"{case.part}/{case.name}", pattern) for pattern in patterns)}
    while True:
        more = {
            key for case in cases if (case.part, case.name) in selected for key in (*case.after, *((CHECKS, name) for name in case.needs))
        }
        if more <= selected:
            return [case for case in cases if (case.part, case.name) in selected]
        selected |= more


def say_on_stderr(line: str) -> None:
    """Print a line of progress on standard error."""
    print(line, file=sys.stderr, flush=True)


def run(
    cases: Sequence[Case], device: torch.device, arguments: argparse.Namespace, *, samples: int, say: Callable[[str], None] = say_on_stderr
) -> int:
    """Run the selected cases, report the outcome and return the exit code. Restarts this command where the device failed."""
    environment = read_environment(device, dry=arguments.dry_run)
    store = Store(arguments.out / folder_name(environment), environment)
    deadline = float(os.environ.get(DEADLINE, time.monotonic() + 60 * arguments.minutes))
    runner = Runner(
        store,
        Bench(device=device, samples=samples, folder=store.folder, record=store.record),
        deadline,
        say,
        retry=arguments.retry,
        total_s=60 * arguments.minutes,
    )
    say(f"{environment.device}, {_versions(environment.packages)}, results in {store.folder}")
    try:
        outcome = runner.run(chosen(cases, arguments.only))
    except DeviceSpoiledError as spoiled:
        say(f"the device failed in {spoiled}; continuing in a new process")
        os.environ[DEADLINE] = str(deadline)
        os.execv(sys.executable, [sys.executable, *(word for word in sys.orig_argv[1:] if word != "--retry")])
    report(outcome, say)
    return int(ExitCode.FAILED if outcome.red else ExitCode.OK)


def report(outcome: Outcome, say: Callable[[str], None]) -> None:
    """Report the outcome of a run in a few lines."""
    say(f"{len(outcome.done)} cases measured, {len(outcome.reused)} kept from before")
    for words, names in (
        ("failed (each record says why; --retry runs them again)", outcome.failed),
        ("not timed: a check is red", outcome.red),
        ("not reached in the time, or dependent on one that was not; run the command again to continue", outcome.left),
    ):
        if names:
            say(f"{len(names)} {words}: {', '.join(names)}")


def refuse_dry_run_over_results(arguments: argparse.Namespace) -> str | None:
    """Why a dry run may not write to `--out`; `None` where it may."""
    if arguments.dry_run and arguments.out.resolve().is_relative_to(RESULTS.resolve()):
        return f"a trial's times mean nothing: give it an --out outside of {RESULTS.relative_to(ROOT)}"
    return None


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())
