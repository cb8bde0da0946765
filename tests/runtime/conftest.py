"""Tiny random models and sessions for the runtime's tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from advisor.backends.runtime.engine import Job
from advisor.backends.session import Session

Tokens = list[tuple[int, ...]]


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Any]:
    """Build a random model of any architecture, wide enough in its weights that greedy choices have clear margins."""
    import transformers

    transformers.logging.set_verbosity_error()

    def build(architecture: str = "llama", *, seed: int = 0, **changes: object) -> Any:
        sizes: dict[str, object] = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 256, "initializer_range": 0.2}
        sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        torch.manual_seed(seed)
        config = transformers.CONFIG_MAPPING[architecture](**{**sizes, **changes})
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()

    return build


@pytest.fixture(scope="session")
def llama(build_model: Callable[..., Any]) -> Any:
    return build_model("llama")


@pytest.fixture(scope="session")
def draft(build_model: Callable[..., Any]) -> Any:
    return build_model("llama", seed=1, hidden_size=32, num_hidden_layers=1)


@pytest.fixture(scope="session")
def open_session() -> Callable[..., Session]:
    """A session around a model, four slots of 80 tokens unless told otherwise."""

    def build(model: Any, **settings: Any) -> Session:
        known = {"folder": Path(), "tokenizer": None, "device": torch.device("cpu"), "max_tokens": 80, "max_sequences": 4}
        return Session(model=model, **{**known, **settings})

    return build


@pytest.fixture(scope="session")
def generate() -> Callable[[Any, Sequence[Job]], Tokens]:
    """What `model.generate` answers to each job alone, greedily."""

    def answer(model: Any, job: Job) -> tuple[int, ...]:
        prompt = torch.tensor([job.prompt])
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=job.output_tokens,
            max_new_tokens=job.output_tokens,
            eos_token_id=None,
            pad_token_id=0,
        )
        return tuple(out[0, len(job.prompt) :].tolist())

    return lambda model, jobs: [answer(model, job) for job in jobs]
