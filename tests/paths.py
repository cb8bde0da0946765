"""Folders that tests read from, and the user's folders, which they must not."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOSTS = ROOT / "tests/hosts"
"""Machines as folders with their `proc` and `sys`."""


def set_folders(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Point everything that is read from the user's home to `home`, and drop the user's settings."""
    for name in ("DATA", "STATE", "CACHE", "CONFIG"):
        patch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    patch.setenv("HF_HOME", str(home / "huggingface"))
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT", "ADVISOR_ERROR_FORMAT", "ADVISOR_PLAN_PROFILE", "NO_COLOR"):
        patch.delenv(name, raising=False)
