"""A model folder is checked before it is loaded, and what is wrong with it is said in our words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from advisor.backends.deployment import Attention
from advisor.backends.measure.memory import weight_bytes
from advisor.backends.model import load
from advisor.backends.model.load import load_draft, load_session, trained_tokens
from advisor.profiles.errors import AdvisorError


@pytest.fixture
def copied(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def edit(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def refusal(folder: Path, *, max_tokens: int = 64) -> AdvisorError:
    with pytest.raises(AdvisorError) as caught:
        load_session(folder, max_tokens=max_tokens)
    return caught.value


def test_a_good_folder_loads_in_the_checkpoint_s_format(tiny_model_folder: Path) -> None:
    import torch

    session = load_session(tiny_model_folder, max_tokens=64, max_sequences=3)
    assert session.model.dtype is torch.bfloat16
    assert not session.model.training
    assert (session.max_tokens, session.batching.max_sequences, session.attention) == (64, 3, Attention())
    on_disk = (tiny_model_folder / "model.safetensors").stat().st_size
    assert 0.9 * on_disk < weight_bytes(session) < on_disk, "tied embeddings count once"


def test_a_folder_without_a_model_is_not_found(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "model-not-found"


def test_truncated_weights_are_found_before_loading(copied: Path) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert refusal(copied).code == "weights-truncated"


def test_pickled_weights_are_never_loaded(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    assert refusal(copied).code == "weights-pickled"


def test_a_missing_tokenizer_is_named(copied: Path) -> None:
    (copied / "tokenizer.json").unlink()
    assert refusal(copied).code == "tokenizer-not-found"


def test_a_broken_tokenizer_is_an_error_not_a_traceback(copied: Path) -> None:
    (copied / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Nonsense"}}')
    assert refusal(copied).code == "tokenizer-broken"


@pytest.mark.parametrize("vocabulary", [200, 3200])
def test_the_tokenizer_of_another_model_is_refused_with_both_sizes(copied: Path, vocabulary: int) -> None:
    edit(copied / "config.json", lambda config: config.update(vocab_size=vocabulary))
    error = refusal(copied)
    assert error.code == "tokenizer-mismatch"
    assert str(vocabulary) in error.message
    assert "320" in error.message


def test_code_that_comes_with_a_model_is_not_run(copied: Path, tmp_path: Path) -> None:
    (copied / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit(
        copied / "config.json",
        lambda config: config.update(
            model_type="evil", auto_map={"AutoConfig": "modeling_evil.C", "AutoModelForCausalLM": "modeling_evil.M"}
        ),
    )
    assert refusal(copied).code == "model-unsupported"
    assert not (tmp_path / "ran").exists()


def test_sequences_longer_than_the_model_was_made_for_are_refused(tiny_model_folder: Path) -> None:
    error = refusal(tiny_model_folder, max_tokens=513)
    assert error.code == "context-too-long"
    assert "513" in error.message
    assert "512" in error.message


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "free_bytes", lambda device: 1000)
    assert refusal(tiny_model_folder).code == "out-of-memory"


def test_a_model_without_a_known_draft_says_so(tiny_model_folder: Path) -> None:
    session = load_session(tiny_model_folder, max_tokens=64)
    with pytest.raises(AdvisorError) as caught:
        load_draft(session)
    assert caught.value.code == "draft-not-found"


def test_a_draft_that_was_named_is_taken_and_must_share_the_vocabulary(tiny_model_folder: Path, copied: Path) -> None:
    session = load_session(tiny_model_folder, max_tokens=64, draft_folder=copied)
    assert load_draft(session).config.vocab_size == session.model.config.vocab_size
    edit(copied / "config.json", lambda config: config.update(vocab_size=300))
    with pytest.raises(AdvisorError) as caught:
        load_draft(session)
    assert caught.value.code == "tokenizer-mismatch"


def test_the_trained_length_is_found_also_in_a_text_config() -> None:
    assert trained_tokens({"max_position_embeddings": 8}) == 8
    assert trained_tokens({"text_config": {"max_position_embeddings": 9}}) == 9
    assert trained_tokens({}) is None


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", None])
def test_a_model_is_loaded_in_the_type_that_is_asked_for(tiny_model_folder: Path, dtype: str | None) -> None:
    import torch

    session = load_session(tiny_model_folder, max_tokens=64, dtype=dtype)
    expected = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, None: torch.bfloat16}[dtype]
    assert {parameter.dtype for parameter in session.model.parameters()} == {expected}
    assert session.dtype == dtype


def test_a_technique_loads_the_model_again_in_its_type(tiny_model_folder: Path) -> None:
    import torch

    from advisor.backends.measure.memory import weight_bytes
    from advisor.backends.techniques import by_name

    session = load_session(tiny_model_folder, max_tokens=64)
    before = weight_bytes(session)
    wide = by_name("dtype-fp32").apply(session)
    assert {parameter.dtype for parameter in wide.model.parameters()} == {torch.float32}
    assert weight_bytes(wide) == pytest.approx(2 * before, rel=0.01)
    assert all(parameter.device.type == "meta" for parameter in session.model.parameters()), "the earlier model is freed"
    ids = torch.arange(3, 12).unsqueeze(0)
    again = by_name("dtype-bf16").apply(wide)
    with torch.inference_mode():
        exact = load_session(tiny_model_folder, max_tokens=64).model(ids).logits
        assert torch.equal(again.model(ids).logits, exact), "nothing was rounded twice"
