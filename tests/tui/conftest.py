"""Folders of the test's own, as the app saves its state; and no key is given up on a busy machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import set_folders
from tests.tui.driving import SHARED_APP

IDLE_S = 0.005
"""Time without work after which Textual takes the app for idle, three times for each key; its own 20 ms are half of the tests' time."""


@pytest.fixture(scope="package", autouse=True)
def closed_app() -> Iterator[None]:
    """End the shared app after the last test of the folder."""
    yield
    SHARED_APP.close()


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    set_folders(monkeypatch, folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr("advisor.tui.key_queue.TIMEOUT_S", 60.0)
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", IDLE_S)
    monkeypatch.setattr("textual._wait.SLEEP_IDLE", IDLE_S / 20)
    return folder
