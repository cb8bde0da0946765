"""Opening and saving plans: files stand in a list, the newest first; a bad one says why; what is in the way is named before it goes."""

import os
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from advisor.tui.form.choices import plan_files
from tests.paths import ROOT
from tests.tui.canned import QUESTION, CannedClient
from tests.tui.driving import SHARED_APP, frame, message_of, settled, shared_app

GOLDEN_PLAN = ROOT / "tests/golden/plan.yaml"


def _plan(folder: Path, name: str, age_s: int) -> None:
    text = GOLDEN_PLAN.read_text(encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")
    os.utime(folder / name, (1_700_000_000 - age_s,) * 2)


def test_plan_files_are_listed_the_newest_first_with_model_machine_and_verdict(tmp_path: Path) -> None:
    _plan(tmp_path, "older.yaml", 60)
    _plan(tmp_path, "newer.yml", 0)
    (tmp_path / "other.yaml").write_text("kind: Request\n", encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("kind: Plan\nformat: [\n", encoding="utf-8")
    os.utime(tmp_path / "broken.yaml", (1_600_000_000,) * 2)
    options = plan_files([tmp_path, tmp_path]).options
    assert [Path(option.value).name for option in options] == ["newer.yml", "older.yaml", "broken.yaml"]
    assert options[0].label.endswith(("meets all limits", "meets them at RISK", "misses a limit"))
    assert " on " in options[0].label
    assert options[2].label.endswith("cannot be read; Enter says why")


@pytest.mark.parametrize(
    ("typed", "message"), [pytest.param("gone.yaml", "Plan not found: gone.yaml", marks=pytest.mark.slow), ("broken.yaml", "broken.yaml")]
)
def test_a_bad_file_says_why_and_the_question_stays(typed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("kind: Plan\nformat: [\n", encoding="utf-8")

    async def drive() -> None:
        async with shared_app(QUESTION, client=CannedClient()) as (app, pilot):
            await pilot.press("escape", "o")
            await settled(pilot)
            assert "broken.yaml   cannot be read" in frame(app)
            app.screen.query_one(Input).value = typed
            await pilot.press("enter")
            await settled(pilot)
            assert message in message_of(app)
            assert message_of(app).endswith("o opens another; the question is unchanged.")
            assert app.store.state.values == QUESTION

    SHARED_APP.run(drive())


async def _saved(pilot: Pilot[None], file: Path) -> None:
    await pilot.press("e")
    await settled(pilot)
    pilot.app.screen.query_one(Input).value = str(file)
    await pilot.press("enter")
    await settled(pilot)


def test_a_plan_is_put_in_the_place_of_something_else_only_when_that_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    present, gone = Path("kept.txt"), Path("gone.yaml")
    present.write_text("not a plan\n", encoding="utf-8")
    _plan(tmp_path, gone.name, 0)

    async def drive() -> None:
        async with shared_app(client=CannedClient()) as (app, pilot):
            await pilot.press("escape")
            await _saved(pilot, present)
            assert "exists: a file that is no plan." in " ".join(frame(app).split())
            await pilot.press("enter")
            await settled(pilot)
            assert present.read_text(encoding="utf-8") == "not a plan\n"
            assert message_of(app).endswith("is unchanged. e saves under another name.")
            await _saved(pilot, gone)
            assert "another plan, plan-" in " ".join(frame(app).split())
            await pilot.press("down", "enter")
            await settled(pilot)
            assert message_of(app) == f"saved {gone}"
            written = gone.read_bytes()
            await _saved(pilot, gone)
            assert message_of(app).endswith("has this plan already; unchanged")
            assert gone.read_bytes() == written

    SHARED_APP.run(drive())
