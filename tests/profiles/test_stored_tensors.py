"""A format has the bytes of the tensors that libraries store for a matrix; a checkpoint those of its files."""

import json
from collections.abc import Iterator, Mapping
from math import ceil, prod
from pathlib import Path
from typing import Any

import pytest

from advisor.backends.deployment import Deployment, Weights
from advisor.estimate.memory.ledger import weight_bytes
from advisor.profiles.formats import weight_format
from advisor.profiles.model_store import find_model
from advisor.profiles.weight_files import INDEX

N, K = 768, 2048
BYTES = {"I32": 4, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "I8": 1, "F8_E4M3": 1}
# The tensors of a linear layer with N outputs and K inputs, as each library's packing code shapes them.
TENSORS: dict[str, list[tuple[str, tuple[int, ...]]]] = {
    "int4-g128-gptq": [("I32", (K // 8, N)), ("I32", (K // 128, N // 8)), ("F16", (K // 128, N)), ("I32", (K,))],
    "int3-g128-gptq": [("I32", (K * 3 // 32, N)), ("I32", (K // 128, N * 3 // 32)), ("F16", (K // 128, N)), ("I32", (K,))],
    "int4-g128-zp": [("I32", (K, N // 8)), ("I32", (K // 128, N // 8)), ("F16", (K // 128, N))],
    "int4-g128-sym": [("I32", (N, K // 8)), ("BF16", (N, K // 128)), ("I64", (2,))],
    "int8-channel-sym": [("I32", (N, K // 4)), ("BF16", (N, 1)), ("I64", (2,))],
    "int4-g64-mlx": [("I32", (N, K // 8)), ("BF16", (N, K // 64)), ("BF16", (N, K // 64))],
    "int3-g64-hqq": [("I32", (ceil(N * K / 64 / 10), 64)), ("BF16", (N * K // 64, 1)), ("BF16", (N * K // 64, 1))],
    "bnb-nf4": [("U8", (N * K // 2, 1)), ("F32", (N * K // 64,)), ("F32", (16,))],
    "bnb-nf4-dq": [("U8", (N * K // 2, 1)), ("U8", (N * K // 64,)), ("F32", (N * K // 64 // 256,)), ("F32", (256,)), ("F32", (16,))],
    "bnb-int8": [("I8", (N, K)), ("F32", (N,))],
    "fp8": [("F8_E4M3", (N, K)), ("F32", (N, 1))],
    "nvfp4": [("U8", (N, K // 2)), ("F8_E4M3", (N, K // 16)), ("F32", (1,)), ("F32", (1,))],
    "mxfp4": [("U8", (N, K // 2)), ("U8", (N, K // 32))],
    "mxfp8": [("F8_E4M3", (N, K)), ("U8", (N, K // 32))],
}
TINY: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 512, "max_position_embeddings": 128, "torch_dtype": "bfloat16",
}  # fmt: skip
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
SHAPES = {
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"), (256, 256)),
    "mlp.gate_proj": (512, 256), "mlp.up_proj": (512, 256), "mlp.down_proj": (256, 512),
}  # fmt: skip


@pytest.mark.parametrize("format", TENSORS)
def test_a_format_has_the_bytes_of_the_tensors_that_its_library_stores(format: str) -> None:
    stored = sum(BYTES[dtype] * prod(shape) for dtype, shape in TENSORS[format])
    assert weight_format(format).matrix_bytes(N, K) == pytest.approx(stored, rel=0.005)


def gptq_tensors() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Names, dtypes and shapes of the tiny model as GPTQModel writes it."""
    for layer in range(2):
        for module, (n, k) in SHAPES.items():
            path = f"model.layers.{layer}.{module}"
            yield f"{path}.qweight", "I32", (k // 8, n)
            yield f"{path}.qzeros", "I32", (k // 128, n // 8)
            yield f"{path}.scales", "F16", (k // 128, n)
            yield f"{path}.g_idx", "I32", (k,)
        yield f"model.layers.{layer}.input_layernorm.weight", "BF16", (256,)
        yield f"model.layers.{layer}.post_attention_layernorm.weight", "BF16", (256,)
    yield from (
        ("model.embed_tokens.weight", "BF16", (512, 256)),
        ("lm_head.weight", "BF16", (512, 256)),
        ("model.norm.weight", "BF16", (256,)),
    )


def folder(path: Path, config: Mapping[str, Any], tensors: Iterator[tuple[str, str, tuple[int, ...]]]) -> Path:
    """A model's folder with a config and one safetensors file."""
    header: dict[str, Any] = {}
    end = 0
    for name, dtype, shape in tensors:
        size = BYTES[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_files_that_hold_what_the_config_says_raise_no_warning(tmp_path: Path) -> None:
    spec = find_model(str(folder(tmp_path, {**TINY, "quantization_config": GPTQ}, gptq_tensors())))
    assert not spec.warnings
    assert spec.checkpoint_bytes == sum(BYTES[dtype] * prod(shape) for _, dtype, shape in gptq_tensors())


def test_towers_and_layers_that_predict_further_tokens_are_not_the_language_models(tmp_path: Path) -> None:
    def tensors() -> Iterator[tuple[str, str, tuple[int, ...]]]:
        yield from gptq_tensors()
        yield "model.visual.blocks.0.attn.qkv.weight", "BF16", (1000, 1000)
        yield "model.layers.2.eh_proj.weight", "BF16", (1000, 1000)
        yield "mtp.fc.weight", "BF16", (1000, 1000)

    spec = find_model(str(folder(tmp_path, {**TINY, "quantization_config": GPTQ}, tensors())))
    assert not spec.warnings


def test_files_decide_where_the_config_says_otherwise(tmp_path: Path) -> None:
    """A config without its quantisation: the files hold a third of what bf16 would take, and their bytes hold."""
    spec = find_model(str(folder(tmp_path, TINY, gptq_tensors())))
    stored = sum(BYTES[dtype] * prod(shape) for _, dtype, shape in gptq_tensors())
    assert spec.checkpoint_bytes == stored
    assert spec.warnings[0].startswith("the files hold 0.00")
    assert "less than config.json says" in spec.warnings[0]


def test_unquantised_files_in_another_dtype_are_said_and_loaded_in_that_of_the_config(tmp_path: Path) -> None:
    def tensors() -> Iterator[tuple[str, str, tuple[int, ...]]]:
        for layer in range(2):
            for module, shape in SHAPES.items():
                yield f"model.layers.{layer}.{module}.weight", "F32", shape
        yield "model.embed_tokens.weight", "F32", (512, 256)
        yield "lm_head.weight", "F32", (512, 256)

    spec = find_model(str(folder(tmp_path, TINY, tensors())))
    assert "more than config.json says" in spec.warnings[0]
    assert spec.checkpoint_bytes == spec.config_bytes


def test_an_index_without_its_files_gives_their_total(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "quantization_config": GPTQ}))
    names = {name: "model-00001-of-00001.safetensors" for name, _, _ in gptq_tensors()}
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {"total_size": 1_000_000}, "weight_map": names}))
    spec = find_model(str(tmp_path))
    assert spec.checkpoint_bytes == 1_000_000
    assert spec.warnings


def test_files_that_cannot_be_read_are_a_warning_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert "could not be compared" in find_model(str(tmp_path)).warnings[0]


def test_a_deployment_holds_the_bytes_of_the_files(tmp_path: Path) -> None:
    spec = find_model(str(folder(tmp_path, TINY, gptq_tensors())))
    assert weight_bytes(Deployment(model=spec, weights=Weights(spec.weight_format))) == pytest.approx(spec.checkpoint_bytes)
