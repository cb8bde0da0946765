"""Folders of the test's own: a session saves itself, and must not find the user's."""

from pathlib import Path

import pytest

from tests.paths import set_folders


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    set_folders(monkeypatch, folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    return folder
