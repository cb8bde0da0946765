"""Golden files of frames. ADVISOR_GOLDEN=write makes them anew."""

import os

from tests.paths import ROOT

FRAMES_FOLDER = ROOT / "tests/tui/frames"


def is_golden(name: str, text: str, *, ascii: bool) -> None:
    """The frame is the one that is kept, and in ASCII where that was asked for."""
    golden = FRAMES_FOLDER / f"{name}.txt"
    if os.environ.get("ADVISOR_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    if ascii:
        assert sorted({character for character in text if not character.isascii()}) == []
