"""Folders of the test's own: a session saves itself, and must not find the user's."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    for name in ("DATA", "STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(folder / name.lower()))
    monkeypatch.setenv("HF_HOME", str(folder / "huggingface"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    for name in ("ADVISOR_ERROR_FORMAT", "ADVISOR_PLAN_PROFILE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return folder
