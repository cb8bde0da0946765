"""Runs the command line in this process and gives back its exit code and both streams."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.paths import set_folders

if TYPE_CHECKING:
    from advisor.cli.main import OpenTerminalInterface


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.err.strip().splitlines()[-1])["error"]
        return error


Advisor = Callable[..., Ended]


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data and state of the test's own, and no settings from outside."""
    folder = tmp_path_factory.mktemp("home")
    set_folders(monkeypatch, folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def advisor(capsys: pytest.CaptureFixture[str]) -> Advisor:
    from advisor.cli.main import main

    def run(*words: object, open_interface: "OpenTerminalInterface | None" = None) -> Ended:
        capsys.readouterr()
        code = main([str(word) for word in words], open_interface=open_interface)
        streams = capsys.readouterr()
        return Ended(code, streams.out, streams.err)

    return run


LLAMA = "meta-llama/Meta-Llama-3.1-8B"
