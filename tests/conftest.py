"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before any kernel is imported: without a GPU, Triton's functions run in its interpreter. `make test-gpu` sets it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Nor are the processors watched before every child process, which is what happens where nobody has said how threads shall wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Tests never judge wall time: a busy machine is no failure.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with grouped queries and a byte-pair tokenizer, saved as an ordinary model folder."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([tiny_text()], vocab_size=320, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some ordinary text to cut prompts from and to measure quality on."""
    file = tmp_path_factory.mktemp("texts") / "held-out.txt"
    file.write_text(tiny_text(), encoding="utf-8")
    return file


def tiny_text() -> str:
    """About 90 kB of text: this library's own modules, which every installation has."""
    import json
    import statistics

    return Path(statistics.__file__).read_text(encoding="utf-8") + Path(json.__file__).read_text(encoding="utf-8")
