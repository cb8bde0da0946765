"""Golden files of frames. ADVISOR_GOLDEN=write makes them anew."""

import difflib
import os

from tests.paths import ROOT

FRAMES_FOLDER = ROOT / "tests/tui/frames"


def matches_golden(name: str, text: str, *, ascii: bool) -> bool:
    """Whether the frame is the stored one, and in ASCII where `ascii` asks for it. Prints the lines that differ."""
    golden = FRAMES_FOLDER / f"{name}.txt"
    if os.environ.get("ADVISOR_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    stored = golden.read_text(encoding="utf-8")
    if text != stored:
        print(*difflib.unified_diff(stored.splitlines(), text.splitlines(), name, "drawn", lineterm="", n=0), sep="\n")
    return text == stored and (text.isascii() or not ascii)
