"""Time of the terminal interface from a key in a limit to its frame, for every shipped model, and from its start to the first frame.

The app runs without a terminal. Each key is pressed as soon as the frame of the last one is drawn, while the planner may still work
on that one. A frame counts once its plans are those of the new limit: first as ranked by cached prices, then as simulated with
reasons. Starts run in a pseudo-terminal, up to the first frame. Writes `session.json` into the device's results.

    python -m benchmarks.session [--models REGEX] [--hardware h100-sxm] [--out benchmarks/results]
"""

import argparse
import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input

from advisor.profiles.architectures.spec import shipped_models
from advisor.tui.app import AdvisorApp
from advisor.tui.form.history import History
from advisor.tui.form.saved_state import SavedState
from advisor.tui.form.values import FormValues
from advisor.tui.settings import AppSettings
from advisor.tui.workers.planning_client import PlanningClient
from benchmarks.harness.parts import SESSION

if TYPE_CHECKING:
    from benchmarks.harness.record import Record

LOADS: dict[str, dict[str, str]] = {"one at a time": {}, "64 at once": {"concurrency": "64"}, "4 requests/s": {"request_rate": "4"}}
TYPED = (("tpot_ms", "24"), ("ttft_ms", "350"), ("memory_gib", "60"), ("quality_loss", "2"), ("throughput", "900"))
PATIENCE_S = 60.0
LAUNCHES = 10
FIRST_FRAME = b"Which model"
SIZE = (120, 40)


@dataclass(frozen=True, slots=True)
class Pressed:
    """One key: seconds to the first frame with its plans, of wall time and of processor time."""

    model: str
    load: str
    frame_s: float
    processor_s: float


@dataclass(frozen=True, slots=True)
class Typed:
    """All keys of one app, and seconds from the last one to the simulated plan; `None` where the model has no plan."""

    keys: tuple[Pressed, ...]
    simulated_s: float | None


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="", help="regular expression; without it, all that are shipped")
    parser.add_argument("--hardware", default="h100-sxm")
    parser.add_argument("--devices", default="1")
    parser.add_argument("--out", type=Path, help="folder of results; without it, nothing is written")
    given = parser.parse_args()
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    launches = [launched_s() for _ in range(LAUNCHES)]
    print(f"launch to first frame: median {statistics.median(launches):.2f} s, most {max(launches):.2f} s", flush=True)
    measured: dict[str, list[Typed]] = {load: [] for load in LOADS}
    models = [model for model in shipped_models() if re.search(given.models, model)]
    for number, model in enumerate(models, 1):
        print(f"{number} of {len(models)}: {model}", file=sys.stderr, flush=True)
        for load, texts in LOADS.items():
            values = FormValues({"model": model, "hardware": given.hardware, "devices": given.devices, "context": "2k", **texts})
            measured[load].append(asyncio.run(_typed_into(values, model, load)))
    print(table(measured))
    if given.out is not None:
        _write(given.out, launches, measured)


def launched_s() -> float:
    """Seconds from starting `advisor` in a terminal to its first frame."""
    with tempfile.TemporaryDirectory() as home:
        start = time.perf_counter()
        child, terminal = pty.fork()
        if child == 0:
            folders = {f"XDG_{kind}_HOME": home for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
            os.execve(sys.executable, [sys.executable, "-m", "advisor"], {**os.environ, **folders, "TERM": "xterm-256color"})
        try:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *reversed(SIZE), 0, 0))
            seen = b""
            while FIRST_FRAME not in seen:
                if not select.select([terminal], [], [], PATIENCE_S)[0]:
                    raise TimeoutError("the terminal interface drew no first frame")
                seen += os.read(terminal, 65536)
            return time.perf_counter() - start
        finally:
            os.kill(child, signal.SIGKILL)
            os.close(terminal)
            os.waitpid(child, 0)


async def _typed_into(values: FormValues, model: str, load: str) -> Typed:
    """Type `TYPED` into an app that has planned once."""
    app = AdvisorApp(PlanningClient(), SavedState(History(values)), AppSettings(resume=True))
    keys: list[Pressed] = []
    async with app.run_test(size=SIZE) as pilot:
        await _until(lambda: not app.planning.waiting and (app.planning.planned is not None or app.planning.problem is not None))
        if app.planning.planned is None:
            return Typed((), None)  # no machine of this size, or no cache of this kind
        for field, text in TYPED:
            await _enter(app, pilot, field)
            keys += [Pressed(model, load, *await _pressed(app, field, key)) for key in text]
        start = time.perf_counter()
        await _until(lambda: not app.planning.waiting)
        await _drawn(app)
        return Typed(tuple(keys), keys[-1].frame_s + time.perf_counter() - start)


async def _enter(app: AdvisorApp, pilot: Pilot[None], field: str) -> None:
    app.screen.query_one(f"#field-{field}", Input).focus()
    await pilot.pause()


async def _pressed(app: AdvisorApp, field: str, key: str) -> tuple[float, float]:
    """Seconds from a key to the frame with the plans of the field's text: wall time and processor time."""
    text = app.store.state.values.text(field) + key
    start, worked = time.perf_counter(), time.process_time()
    app.post_message(Key(key, key))
    await _until(
        lambda: (
            app.store.state.values.text(field) == text
            and app.planning.planned is not None
            and app.planning.planned.values == app.store.state.values
        )
    )
    await _drawn(app)
    return time.perf_counter() - start, time.process_time() - worked


async def _drawn(app: AdvisorApp) -> None:
    """Wait for the next frame."""
    done = asyncio.Event()
    app.screen.call_after_refresh(done.set)
    await done.wait()


async def _until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError("the terminal interface never answered")
        await asyncio.sleep(0.001)


def table(measured: dict[str, list[Typed]]) -> str:
    """Milliseconds by load: median, 95th percentile and most to the first frame, and to the plan as simulated."""
    lines = [f"{'ms':<16}{'keys':>6}  {'first frame: median':>19} {'p95':>6} {'most':>6}  {'simulated: median':>17} {'p95':>6} {'most':>6}"]
    for load, sessions in measured.items():
        keys = [key.frame_s for typed in sessions for key in typed.keys]
        last = [typed.simulated_s for typed in sessions if typed.simulated_s is not None]
        lines.append(f"{load:<16}{len(keys):>6}  {_spread(keys, 19)}  {_spread(last, 17)}")
    return "\n".join([*lines, "", f"slowest: {slowest(key for sessions in measured.values() for typed in sessions for key in typed.keys)}"])


def slowest(keys: "Iterable[Pressed]") -> str:
    """The models of the slowest keys, each with its slowest."""
    worst: dict[str, float] = {}
    for key in keys:
        worst[key.model] = max(worst.get(key.model, 0.0), key.frame_s)
    return ", ".join(f"{model} {1e3 * worst[model]:.0f} ms" for model in sorted(worst, key=lambda model: -worst[model])[:5])


def _spread(seconds: Sequence[float], width: int) -> str:
    ordered = [1e3 * second for second in sorted(seconds)]
    return f"{statistics.median(ordered):>{width}.0f} {ordered[int(0.95 * (len(ordered) - 1))]:>6.0f} {ordered[-1]:>6.0f}"


def _write(out: Path, launches: Sequence[float], measured: dict[str, list[Typed]]) -> None:
    # The measured process must not have torch loaded.
    import torch

    from benchmarks.harness.environment import folder_name, read_environment
    from benchmarks.harness.record import Record, Timing
    from benchmarks.harness.store import Store

    environment = read_environment(torch.device("cpu"))
    store = Store(out / folder_name(environment), environment)
    first = Timing(name="to the first frame", how="loop", seconds=tuple(launches))
    store.put(SESSION, Record(case="launch", status="done", environment=environment.id, timings=(first,)))
    for load, sessions in measured.items():
        store.put(SESSION, _record(load, sessions, environment.id))


def _record(load: str, sessions: Sequence[Typed], environment: str) -> "Record":
    from benchmarks.harness.record import Record, Timing

    keys = [key for typed in sessions for key in typed.keys]
    simulated = tuple(typed.simulated_s for typed in sessions if typed.simulated_s is not None)
    return Record(
        case=f"key in a limit/{load}",
        status="done",
        environment=environment,
        settings={"models": len({key.model for key in keys}), "columns": SIZE[0], "rows": SIZE[1]},
        timings=(
            Timing(name="to its frame", how="loop", seconds=tuple(key.frame_s for key in keys)),
            Timing(name="to its frame, processor", how="loop", seconds=tuple(key.processor_s for key in keys)),
            Timing(name="to the plan as simulated", how="loop", seconds=simulated),
        ),
        notes=(f"slowest keys: {slowest(keys)}",),
    )


if __name__ == "__main__":
    main()
