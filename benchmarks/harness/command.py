"""What the benchmark commands share: options, a device's store, the run, the exit code."""

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
"""The monotonic time at which the budget ends, for the process that goes on after the device was spoiled."""


def options(doc: str, *, minutes: float) -> argparse.ArgumentParser:
    """The options that every benchmark command takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=minutes, help=f"begin nothing that does not fit in so many (default {minutes:g})")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder under which the device's folder stands")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cases whose part/name matches, as 'kernels/paged-decode*'")
    parser.add_argument("--list", action="store_true", help="print the cases, most important first, and run none")
    parser.add_argument("--retry", action="store_true", help="run again what failed in this environment")
    parser.add_argument("--dry-run", action="store_true", help="try the flow on the CPU with tiny shapes; needs an --out of its own")
    return parser


def chosen(cases: Sequence[Case], patterns: Sequence[str] | None) -> list[Case]:
    """The cases that a pattern asks for, with the checks that they need and what they build on."""
    if not patterns:
        return list(cases)
    wanted = {(case.part, case.name) for case in cases if any(fnmatch(f"{case.part}/{case.name}", pattern) for pattern in patterns)}
    while True:
        more = {
            key for case in cases if (case.part, case.name) in wanted for key in (*case.after, *((CHECKS, name) for name in case.needs))
        }
        if more <= wanted:
            return [case for case in cases if (case.part, case.name) in wanted]
        wanted |= more


def say_on_stderr(line: str) -> None:
    """Progress is talk, not data."""
    print(line, file=sys.stderr, flush=True)


def run(
    cases: Sequence[Case], device: torch.device, asked: argparse.Namespace, *, samples: int, say: Callable[[str], None] = say_on_stderr
) -> int:
    """Run the cases that are asked for and tell how it went. Starts this command anew where the device was spoiled."""
    environment = read_environment(device, dry=asked.dry_run)
    store = Store(asked.out / folder_name(environment), environment)
    deadline = float(os.environ.get(DEADLINE, time.monotonic() + 60 * asked.minutes))
    runner = Runner(
        store,
        Bench(device=device, samples=samples, folder=store.folder, record=store.record),
        deadline,
        say,
        retry=asked.retry,
        total_s=60 * asked.minutes,
    )
    say(f"{environment.device}, {_versions(environment.packages)}, results in {store.folder}")
    try:
        outcome = runner.run(chosen(cases, asked.only))
    except DeviceSpoiledError as spoiled:
        say(f"the device answers no more after {spoiled}; going on in a new process")
        os.environ[DEADLINE] = str(deadline)
        os.execv(sys.executable, [sys.executable, *(word for word in sys.orig_argv[1:] if word != "--retry")])
    tell(outcome, say)
    return int(ExitCode.FAILED if outcome.red else ExitCode.OK)


def tell(outcome: Outcome, say: Callable[[str], None]) -> None:
    """The end of a run in a few lines."""
    say(f"{len(outcome.done)} cases measured, {len(outcome.kept)} kept from before")
    for words, names in (
        ("failed (each record says why; --retry runs them again)", outcome.failed),
        ("not timed: a check is red", outcome.red),
        ("not reached in the time, or built on one that was not; run the command again to go on", outcome.left),
    ):
        if names:
            say(f"{len(names)} {words}: {', '.join(names)}")


def refuse_dry_run_over_results(asked: argparse.Namespace) -> str | None:
    """Why a trial may not write where it was told to; `None` where it may."""
    if asked.dry_run and asked.out.resolve().is_relative_to(RESULTS.resolve()):
        return f"a trial's times mean nothing: give it an --out outside of {RESULTS.relative_to(ROOT)}"
    return None


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())
