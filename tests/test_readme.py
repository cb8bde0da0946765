"""What the README says is generated where it can be, and true where it cannot."""

import os
import re
import subprocess
import sys
from pathlib import Path

from advisor.tui.keys import PLAN_KEYS

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_of_techniques_is_current() -> None:
    done = subprocess.run([sys.executable, "tools/readme_table.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_structure_is_short_and_names_only_what_exists() -> None:
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 90
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?)`", text):
        inside = path if path.split("/")[0] in ("advisor", "tools", "benchmarks") else f"advisor/{path}"
        assert (ROOT / inside).exists() or list((ROOT / "advisor").rglob(path.rstrip("/"))), f"docs/structure.md names {path}"


def test_the_reading_path_is_an_afternoon() -> None:
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8").split("## A reading path")[1]
    files = re.findall(r"`([a-z_/]+\.py)`", text)
    assert len(files) == 12
    assert sum(len((ROOT / "advisor" / file).read_text(encoding="utf-8").splitlines()) for file in files) <= 2400


def test_the_documents_name_every_key_of_the_plan() -> None:
    section = (ROOT / "docs" / "terminal-interface.md").read_text(encoding="utf-8")
    wanted = {key.key_display.replace("^", "ctrl+") for key in PLAN_KEYS if key.key_display}
    assert wanted - set(re.findall("`([^`]+)`", section)) == set()


def test_every_document_that_is_linked_is_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_picture_at_the_head_is_drawn_by_its_script(tmp_path: Path) -> None:
    head = (ROOT / "README.md").read_text(encoding="utf-8").split("## ")[0]
    assert "(docs/session.svg)" in head
    assert "tools/session_picture.py" in head
    file = tmp_path / "session.svg"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "tools/session_picture.py", str(file)], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for picture in (file, ROOT / "docs" / "session.svg"):
        text = picture.read_text(encoding="utf-8").replace("&#160;", " ")
        assert "Binding" in text
        assert "RTX" in text
