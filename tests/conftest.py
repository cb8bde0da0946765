"""The machine that every test plans for, and fixtures that many tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings

from advisor.backends.detection.host import HOST_ROOT
from tests.paths import HOSTS, set_folders

HOST = HOSTS / os.environ.get("ADVISOR_TEST_HOST", "avx2")
if not HOST.is_dir():
    raise pytest.UsageError(f"no host {HOST.name} in {HOSTS}; choose from {', '.join(sorted(path.name for path in HOSTS.iterdir()))}")

# No test detects the machine that it runs on: every process of the suite reads a folder of `hosts`, which is a machine's `proc` and `sys`.
# The suite passes on each of them: `ADVISOR_TEST_HOST=avx512-bf16 pytest`.
os.environ[HOST_ROOT] = str(HOST)

# Where a process runs for each core, a second thread in each only waits for the first of another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Text is as wide as in a pipe, whatever the terminal of the suite says.
os.environ.pop("COLUMNS", None)

# Before any kernel is imported: without a GPU, Triton's functions run in its interpreter. `make test-gpu` sets it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Nor are the processors watched before every child process, which is what happens where nobody has said how threads shall wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Tests never judge wall time: a busy machine is no failure.
settings.register_profile("few-examples", deadline=None, max_examples=20)
settings.register_profile("many-examples", deadline=None, max_examples=100)


def pytest_configure(config: pytest.Config) -> None:
    """Property tests run on few examples, in the run of slow tests on many."""
    settings.load_profile("many-examples" if _selects_slow(config) else "few-examples")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The run of slow tests has every property test, too."""
    for item in items:
        if _selects_slow(config) and is_hypothesis_test(getattr(item, "function", None)):
            item.add_marker("slow")


def _selects_slow(config: pytest.Config) -> bool:
    return str(config.getoption("markexpr")).startswith("slow")


@pytest.fixture(scope="session", autouse=True)
def folders_of_the_suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds the user's profiles, runs, models or settings."""
    with pytest.MonkeyPatch.context() as patch:
        set_folders(patch, tmp_path_factory.mktemp("suite"))
        yield


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
