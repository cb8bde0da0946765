"""Type limits into the session, for every shipped model, and measure from the key to the frame that follows it.

The app runs as it does in a terminal, drawn to nowhere. Each key is pressed as soon as the frame of the last one is there, while the
planner still works on it. A frame counts when its plans stand for the new limit: first as far as they are known, then as simulated
with their reasons. Prints, as a table, milliseconds per kind of load and the slowest models: of processor time, which other programs
disturb less than the clock.

    python -m benchmarks.session [--models REGEX] [--hardware h100-sxm]
"""

import argparse
import asyncio
import os
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input

from advisor.profiles.models import shipped_models
from advisor.session.app import SessionApp, Setting
from advisor.session.asked import Asked
from advisor.session.desk import Desk
from advisor.session.history import History
from advisor.session.state import SessionState

LOADS: dict[str, dict[str, str]] = {"one at a time": {}, "64 at once": {"concurrency": "64"}, "4 requests/s": {"request_rate": "4"}}
TYPED = (("tpot_ms", "24"), ("ttft_ms", "350"), ("memory_gib", "60"), ("quality_loss", "2"), ("throughput", "900"))
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Pressed:
    """One key: ms to the first frame that stands for it, and to the simulated one where it was waited for."""

    model: str
    load: str
    first_ms: float
    last_ms: float | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="", help="regular expression; without it, all that are shipped")
    parser.add_argument("--hardware", default="h100-sxm")
    parser.add_argument("--devices", default="1")
    given = parser.parse_args()
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    measured: list[Pressed] = []
    for model in filter(re.compile(given.models).search, shipped_models()):
        for load, texts in LOADS.items():
            asked = Asked({"model": model, "hardware": given.hardware, "devices": given.devices, "context": "2k", **texts})
            measured += asyncio.run(_typed_into(asked, model, load))
    print(table(measured))


async def _typed_into(asked: Asked, model: str, load: str) -> list[Pressed]:
    """Every key of `TYPED` into a session that has planned once."""
    app = SessionApp(Desk(), SessionState(History(asked)), Setting(resume=True))
    found = []
    async with app.run_test(size=(120, 40)) as pilot:
        await _until(lambda: not app.waiting and (app.planned is not None or app.problem is not None))
        if app.planned is None:
            return []  # no machine of this size, or no cache of this kind
        for field, text in TYPED:
            row = app.screen.query_one(f"#field-{field}", Input)
            row.focus()
            await pilot.pause()
            for key in text[:-1]:
                found.append(Pressed(model, load, await _pressed(app, field, key), None))
            found.append(await _last(app, pilot, field, text[-1], model, load))
    return found


async def _last(app: SessionApp, pilot: Pilot[None], field: str, key: str, model: str, load: str) -> Pressed:
    start = time.process_time()
    first_ms = await _pressed(app, field, key)
    await _until(lambda: not app.waiting)
    await _drawn(app)
    return Pressed(model, load, first_ms, 1e3 * (time.process_time() - start))


async def _pressed(app: SessionApp, field: str, key: str) -> float:
    """Milliseconds from a key to the frame whose plans stand for what the field then says."""
    text = app.state.asked.text(field) + key
    start = time.process_time()
    app.post_message(Key(key, key))
    await _until(lambda: app.state.asked.text(field) == text and app.planned is not None and app.planned.asked == app.state.asked)
    await _drawn(app)
    return 1e3 * (time.process_time() - start)


async def _drawn(app: SessionApp) -> None:
    """The next frame is on the screen."""
    done = asyncio.Event()
    app.screen.call_after_refresh(done.set)
    await done.wait()


async def _until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError("the session never answered")
        await asyncio.sleep(0.001)


def table(measured: Sequence[Pressed]) -> str:
    """Median, 95th percentile and most of both figures by load, then the models whose slowest key took longest."""
    head = f"{'load':<16}{'keys':>6}  {'first frame: median':>19} {'p95':>6} {'most':>6}  {'simulated: median':>17} {'p95':>6} {'most':>6}"
    lines = [head]
    for load in dict.fromkeys(one.load for one in measured):
        keys = [one for one in measured if one.load == load]
        first, last = [one.first_ms for one in keys], [one.last_ms for one in keys if one.last_ms is not None]
        lines.append(f"{load:<16}{len(keys):>6}  {_spread(first, 19)}  {_spread(last, 17)}")
    worst: dict[str, float] = {}
    for one in measured:
        worst[one.model] = max(worst.get(one.model, 0.0), one.first_ms)
    slow = sorted(worst, key=lambda model: -worst[model])[:5]
    return "\n".join([*lines, "", f"{len(worst)} models; slowest keys, ms: " + ", ".join(f"{model} {worst[model]:.0f}" for model in slow)])


def _spread(numbers: Sequence[float], width: int) -> str:
    ordered = sorted(numbers)
    return f"{statistics.median(ordered):>{width}.0f} {ordered[int(0.95 * (len(ordered) - 1))]:>6.0f} {ordered[-1]:>6.0f}"


if __name__ == "__main__":
    main()
