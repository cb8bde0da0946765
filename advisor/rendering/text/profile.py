"""Measured profiles as text: one with its measurements, or the stored ones as a table."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from advisor.profiles.machine import GemmPoint, MachineProfile
from advisor.profiles.store import StoredProfile
from advisor.quantities.formatting import number, quantity
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.table import Column, Group, table

if TYPE_CHECKING:  # the refit prices plans
    from advisor.feedback.refit import RefitResult


def profile_text(profile: MachineProfile, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """What was measured, on which machine, and the best rate reached in each format."""
    look = Look(width, colour, ascii)
    shared = "; other processes used the machine meanwhile, so ranges are wider" if profile.shared else ""
    facts = {
        "hardware": profile.hardware.name,
        "fingerprint": profile.fingerprint,
        "taken": f"{profile.taken}, {profile.threads} threads{shared}",
        "memory": f"read {quantity(profile.read_bytes_per_s, 'B/s')}, copy {quantity(profile.copy_bytes_per_s, 'B/s')}",
        "launch": f"{number(profile.launch_s * 1e6)} µs, the smallest operator",
        "pace": f"{number(profile.pace_s * 1e6)} µs for a fixed loop on the processor" if profile.pace_s else "",
        "runtime": _overheads(profile),
        "refit": _refit_words(profile),
        "fit": f"{number(profile.residual_pct)} % median residual",
        "versions": ", ".join(f"{name} {version}" for name, version in profile.environment.items()),
    }
    lines = [look.paint(f"{profile.name}: {profile.hardware.name}", "title")]
    lines += [line for name, text in facts.items() if text for line in wrap(text, look, first=f"{name:<14}")]
    lines += ["", *_products(profile.gemm, look), "", f"{len(profile.attention)} attention timings"]
    return look.finish(lines)


def refit_text(result: "RefitResult", *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """The factors fitted to a run, and the error of that run's predictions before and after."""
    look = Look(width, colour, ascii)
    before, after = number(result.before_pct), number(result.after_pct)
    facts = {
        "refit": _refit_words(result.profile),
        "error": f"median of TTFT and TPOT over {result.rungs} rungs: {before} % before, {after} % after",
    }
    lines = [look.paint(f"{result.profile.name}: {result.profile.hardware.name}", "title")]
    return look.finish([*lines, *(line for name, text in facts.items() for line in wrap(text, look, first=f"{name:<14}"))])


def _refit_words(profile: MachineProfile) -> str:
    factors = profile.refit
    if factors is None:
        return ""
    return f"operators × {number(factors.operators)}, overheads × {number(factors.overheads)}, fitted to {', '.join(factors.runs)}"


def profiles_text(stored: Sequence[StoredProfile], *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """One row per stored profile."""
    look = Look(width, colour, ascii)
    if not stored:
        return look.finish(["No profiles are stored."])
    key = Column("name", tuple(item.name for item in stored), left=True)
    taken = Column("taken", tuple(item.taken for item in stored), left=True)
    hardware = Column("hardware", tuple(item.hardware for item in stored), left=True)
    marks = Column("", tuple("shared" if item.shared else "" for item in stored), left=True)
    return look.finish(table(key, (Group((taken,)), Group((hardware,)), Group((marks,))), look))


def _overheads(profile: MachineProfile) -> str:
    runtime = profile.runtime
    return (
        f"{number(runtime.step_s * 1e6)} µs a step, {number(runtime.layer_s * 1e6)} µs a layer, "
        f"{number(runtime.sequence_s * 1e6)} µs a sequence, {number(runtime.element_s * 1e9)} ns an element"
    )


def _products(points: Sequence[GemmPoint], look: Look) -> list[str]:
    """Per format: points, the best rate of computing (many rows) and of reading weights (one row)."""
    by_format: dict[str, list[GemmPoint]] = defaultdict(list)
    for point in points:
        by_format[point.format].append(point)
    if not by_format:
        return ["No matrix products were measured."]
    key = Column("matrix products", tuple(by_format), left=True)
    count = Column("timings", tuple(str(len(timings)) for timings in by_format.values()))
    best = Column("best FLOP/s", tuple(quantity(max(_flops(point) for point in timings), "FLOP/s") for timings in by_format.values()))
    return table(key, (Group((count, best)),), look)


def _flops(point: GemmPoint) -> float:
    return 2 * point.m * point.n * point.k / point.seconds
