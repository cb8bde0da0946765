"""What flex_attention needs is looked for before anything is changed."""

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


def test_a_machine_without_a_compiler_is_told_what_to_install(session: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advisor.backends.detection.compiler.shutil.which", lambda _: None)
    with pytest.raises(AdvisorError, match=r"flex_attention cannot be compiled for cpu: none of g\+\+, clang\+\+, c\+\+") as caught:
        AttentionFlex().apply(session)
    assert (caught.value.code, caught.value.exit_code) == ("compiler-not-found", ExitCode.MISSING)
    assert caught.value.help[0].startswith("install a C++ compiler")


def test_with_a_compiler_only_the_attention_changes(session: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advisor.backends.detection.compiler.shutil.which", lambda name: f"/usr/bin/{name}")
    assert AttentionFlex().apply(session) == dataclasses.replace(session, attention=Attention(AttentionBackend.FLEX))


def test_the_compiler_that_is_named_in_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "icpx")
    monkeypatch.setattr("advisor.backends.detection.compiler.shutil.which", lambda name: f"/opt/{name}")
    assert cpp_compiler() == "/opt/icpx"
