"""`attention-flex` looks for a compiler before it changes anything."""

import dataclasses
from pathlib import Path

import pytest

from advisor.backends.deployment import Attention, AttentionBackend
from advisor.backends.detection.compiler import cpp_compiler
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.techniques.attention_flex import AttentionFlex
from advisor.profiles.errors import AdvisorError, ExitCode


@pytest.fixture
def session() -> LoadedModel:
    import torch

    return LoadedModel(folder=Path(), model=None, tokenizer=None, device=torch.device("cpu"), max_tokens=64)


def only_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    """Let `folder` with empty executables of these names be the whole search path, and no compiler be named in the environment."""
    for name in programs:
        (folder / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)


def test_without_a_compiler_the_error_names_what_to_install(session: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(tmp_path, monkeypatch)
    with pytest.raises(AdvisorError, match=r"flex_attention cannot be compiled for cpu: none of g\+\+, clang\+\+, c\+\+") as caught:
        AttentionFlex().apply(session)
    assert (caught.value.code, caught.value.exit_code) == ("compiler-not-found", ExitCode.MISSING)
    assert caught.value.help[0].startswith("install a C++ compiler")


def test_with_a_compiler_only_the_attention_changes(session: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(tmp_path, monkeypatch, "g++")
    assert AttentionFlex().apply(session) == dataclasses.replace(session, attention=Attention(AttentionBackend.FLEX))


def test_the_compiler_that_is_named_in_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_on_path(tmp_path, monkeypatch, "g++", "icpx")
    monkeypatch.setenv("CXX", "icpx")
    assert cpp_compiler() == str(tmp_path / "icpx")
