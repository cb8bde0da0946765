"""Draw docs/session.svg: the terminal interface at 120 columns by 40 rows, with a plan of Llama 3.1 8B for an RTX 4090."""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

from textual.pilot import Pilot

from advisor.profiles.files import write_whole

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "session.svg"
SIZE = (120, 40)
QUESTION = {
    "model": "meta-llama/Meta-Llama-3.1-8B",
    "hardware": "rtx-4090",
    "profile": "none",
    "concurrency": "8",
    "ttft_ms": "500",
    "tpot_ms": "30",
    "memory_gib": "20",
}


async def draw() -> str:
    """The picture, once the plan and its reasons are shown."""
    from advisor.tui.app import AdvisorApp
    from advisor.tui.form.history import History
    from advisor.tui.form.saved_state import SavedState
    from advisor.tui.form.values import FormValues
    from advisor.tui.settings import AppSettings
    from advisor.tui.workers.planning_client import PlanningClient, ThisMachine

    class AnyMachineClient(PlanningClient):
        """The planner without a detected machine: the picture is the same on every machine."""

        def this_machine(self) -> ThisMachine:
            return ThisMachine("", "")

    app = AdvisorApp(AnyMachineClient(), SavedState(History(FormValues(QUESTION))), AppSettings(resume=True))
    async with app.run_test(size=SIZE) as pilot:
        await _rest(pilot)
        await pilot.press("escape", "2")
        await _rest(pilot)
        return app.export_screenshot(title="advisor", simplify=True)


async def _rest(pilot: "Pilot[None]") -> None:
    """Wait for threads and for what follows from their results."""
    from advisor.tui.app import AdvisorApp

    app = pilot.app
    assert isinstance(app, AdvisorApp)
    while True:
        await pilot.pause()
        await app.workers.wait_for_complete()
        await pilot.pause()
        if not app.planning.waiting:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE, help=f"where to write it (default: {PICTURE.name} in docs)")
    file = parser.parse_args().file
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {f"XDG_{name}_HOME": folder for name in ("DATA", "STATE", "CACHE", "CONFIG")}
        os.environ |= {"TEXTUAL_ANIMATIONS": "none", "HF_HUB_OFFLINE": "1"}
        os.environ.pop("NO_COLOR", None)
        picture = asyncio.run(draw())
    write_whole(file, "\n".join(line.rstrip() for line in picture.splitlines()) + "\n")
