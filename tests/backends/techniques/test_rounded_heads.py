"""Output heads stored in few bits: on paper where the model has one of its own and the engine can, and for real."""

from pathlib import Path

import pytest

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.techniques.weights_int4 import WeightsInt4
from advisor.backends.techniques.weights_int8 import WeightsInt8
from advisor.estimate.operators.structure import stored_format
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Request, Workload

HEADS = [WeightsInt4(head=True), WeightsInt8(head=True)]
REQUEST = Request(workload=Workload(prompt_tokens=1024, output_tokens=128, concurrency=1))
EVERY = pytest.mark.parametrize("technique", HEADS, ids=lambda technique: technique.name)


def on(model: str, engine: str = "advisor") -> Deployment:
    return baseline(find_model(model), max_sequences=1, engine=engine)


@EVERY
def test_the_head_takes_the_format_of_the_layers(technique: WeightsInt4 | WeightsInt8) -> None:
    deployment = on("meta-llama/Meta-Llama-3.1-8B")
    assert deployment.model.head is not None
    assert technique.refuse(REQUEST, deployment) is None
    rounded, plain = technique.sketch(deployment, REQUEST), type(technique)().sketch(deployment, REQUEST)
    wanted = "int4-g128" if isinstance(technique, WeightsInt4) else "int8"
    assert stored_format(rounded, deployment.model.head) == wanted
    assert stored_format(plain, deployment.model.head) == "bf16"
    assert stored_format(rounded, deployment.model.embedding) == "bf16"


@EVERY
def test_a_tied_head_and_other_engines_are_refused(technique: WeightsInt4 | WeightsInt8) -> None:
    assert "is tied to the embedding" in str(technique.refuse(REQUEST, on("meta-llama/Llama-3.2-1B")))
    assert "does not quantise the output head" in str(technique.refuse(REQUEST, on("meta-llama/Meta-Llama-3.1-8B", "vllm")))


def test_a_search_tries_one_rounded_head() -> None:
    assert [variant for variant in WeightsInt4().variants() if isinstance(variant, WeightsInt4) and variant.head] == [
        WeightsInt4(head=True)
    ]


@EVERY
def test_the_head_of_a_model_is_rounded_for_real(technique: WeightsInt4 | WeightsInt8, tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from advisor.backends.model.quantised_linear import QuantisedLinear

    config = LlamaConfig(
        vocab_size=256, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=False
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    changed = technique.apply(LoadedModel(folder=tmp_path, model=model, tokenizer=None, device=torch.device("cpu"), max_tokens=8))
    assert isinstance(changed.model.lm_head, QuantisedLinear)
