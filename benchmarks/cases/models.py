"""Models of real shape with random weights, made on the device without touching a disk, and what a decoding step must read of them."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from advisor.backends.deployment import Attention, KvCache
from advisor.backends.model.load import load_model
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.model.quantised_linear import weight_bytes
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.architectures.spec import SNAPSHOTS, ModelSpec
from advisor.profiles.files import write_whole
from advisor.profiles.model_store import DEMO, ZOO, find_model

_LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "max_position_embeddings": 4096}


@dataclass(frozen=True, slots=True)
class Shape:
    """A model to be made: a shipped snapshot, or `config` of its own; `demo` is the trained one that comes with the package."""

    name: str
    snapshot: str | None = None
    config: dict[str, Any] = field(default_factory=dict, hash=False)

    def read(self) -> dict[str, Any]:
        """Its `config.json`."""
        if self.snapshot is None:
            return dict(self.config)
        path = SNAPSHOTS / f"{self.snapshot.replace('/', '--')}.json"
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return loaded | self.config

    def spec(self) -> ModelSpec:
        """What the estimator knows of it."""
        if self.name in DEMO:
            return find_model(self.name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.name}.json"
            write_whole(path, json.dumps(self.read()))
            return find_model(str(path))


LLAMA_8B = Shape("llama-8b", "meta-llama/Meta-Llama-3.1-8B")
QWEN3_8B = Shape("qwen3-8b", "Qwen/Qwen3-8B")
QWEN3_30B_A3B = Shape("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B")
MISTRAL_7B = Shape("mistral-7b", "mistralai/Mistral-7B-v0.1")
DEMO_MODEL = Shape("demo")
LLAMA_207M = Shape(
    "llama-207m",
    config=_LLAMA
    | {"vocab_size": 32000, "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16}
    | {"num_key_value_heads": 8, "intermediate_size": 2816},
)
LLAMA_5M = Shape(
    "llama-5m",
    config=_LLAMA
    | {"vocab_size": 2048, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8}
    | {"num_key_value_heads": 4, "intermediate_size": 768, "tie_word_embeddings": True},
)
TINY = Shape(
    "llama-tiny",
    config=_LLAMA
    | {"vocab_size": 256, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "intermediate_size": 256},
)


def make_model(shape: Shape, device: torch.device) -> Any:
    """The model in bf16 on `device`, ready to run."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if shape.name in DEMO:
        return load_model(ZOO / DEMO[shape.name], device=str(device))
    config_fields = shape.read()
    config = AutoConfig.for_model(config_fields.pop("model_type"), **config_fields)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager")
    return model.eval()


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a session as results name them."""
    attention: Attention = settings.get("attention", Attention())
    kv: KvCache = settings.get("kv", KvCache())
    return {"attention": attention.backend.value, "kv_layout": kv.layout.value, "kv_block_tokens": kv.block_tokens}


def session_of(model: Any, **settings: Any) -> LoadedModel:
    """A session around a model that has no tokenizer."""
    return LoadedModel(folder=Path(), model=model, tokenizer=None, device=model.device, **settings)


@dataclass(frozen=True, slots=True)
class StepBytes:
    """What one decoding step must read at least."""

    spec: ModelSpec
    weights: float
    """All matrices and their scales but the embedding's; of experts the number that the tokens are expected to choose."""

    def total(self, sequences: int, context: int, kv_element_bytes: float = 2.0) -> float:
        """Weights once, and the cache of every sequence."""
        mixers = [layer.mixer for layer in self.spec.layers if isinstance(layer.mixer, SelfAttention)]
        elements = sum(mixer.cache_elements * mixer.attended_tokens(context) for mixer in mixers)
        return self.weights + sequences * elements * kv_element_bytes


def step_bytes(model: Any, spec: ModelSpec, sequences: int) -> StepBytes:
    """Of the weights as the model holds them now."""
    stored = weight_bytes(model)
    is_tied = stored["head"] == 0
    weights = sum(stored[kind] for kind in ("linear", "scales", "head", "other")) + (stored["embedding"] if is_tied else 0)
    return StepBytes(spec, weights - _expert_bytes(model) * (1 - experts_share(spec, sequences)))


def experts_share(spec: ModelSpec, tokens: int) -> float:
    """Expected share of the experts that the tokens choose, uniformly at random; 1 without experts."""
    experts = next((matrix for layer in spec.layers for matrix in layer.matrices if matrix.kind == "expert"), None)
    return 1.0 if experts is None else 1 - (1 - experts.active / experts.copies) ** tokens


def _expert_bytes(model: Any) -> int:
    """Bytes of all experts' matrices."""
    return sum(tensor.nbytes for name, tensor in (*model.named_parameters(), *model.named_buffers()) if ".experts." in name)
