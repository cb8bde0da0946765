"""Architectures of the shipped models: counts equal transformers', caches and states follow from the layers."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from advisor.profiles.architectures.layers import LatentAttention, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.read import READERS, read_config
from advisor.profiles.architectures.spec import SNAPSHOTS, describe, shipped_models
from advisor.profiles.model_store import find_model

HERE = Path(__file__).parent
COUNTS = HERE / "parameter_counts.csv"
TOOL = HERE.parent.parent / "tools" / "count_parameters.py"
CONFIGS: dict[str, dict[str, Any]] = json.loads((HERE / "family_configs.json").read_text(encoding="utf-8"))


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


ROWS = table(COUNTS)
FAMILIES = table(HERE / "family_counts.csv")


def test_the_table_of_counts_has_every_shipped_model() -> None:
    assert sorted(ROWS) == sorted(shipped_models())
    assert len(ROWS) == 113


@pytest.mark.parametrize("id", ROWS)
def test_parameters_equal_those_of_the_model_that_transformers_builds(id: str) -> None:
    row, spec = ROWS[id], find_model(id)
    if row["reason"]:
        assert not row["meta_parameters"]
        assert spec.unchecked, "a count that nothing confirms must say so"
    else:
        assert spec.parameters == int(row["meta_parameters"])
        assert spec.unchecked is None


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_of_every_family_equal_those_that_transformers_builds(name: str) -> None:
    assert read_config(CONFIGS[name], id=name).parameters == int(FAMILIES[name]["meta_parameters"])


def test_every_reader_is_checked_against_transformers() -> None:
    read = {kind for config in CONFIGS.values() for kind in (config["model_type"], config.get("text_config", {}).get("model_type"))}
    for path in SNAPSHOTS.glob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        read.add(config.get("text_config", config)["model_type"])
    twins = {"minimax_m3_vl_text": "minimax_m3", "step3p5": "step3p7", "internlm2": "llama"}
    # Language models of families that are counted as a whole elsewhere.
    twins |= {"qwen2_5_omni_text": "qwen2", "qwen3_omni_moe_text": "qwen3_moe"}
    assert {twins.get(kind, kind) for kind in READERS} <= read


def test_transformers_cannot_build_only_two() -> None:
    assert {id for id, row in ROWS.items() if row["reason"]} == {"moonshotai/Kimi-K3", "XiaomiMiMo/MiMo-7B-Base"}


@pytest.mark.slow
def test_the_tables_of_counts_are_what_transformers_builds_today(tmp_path: Path) -> None:
    for path, arguments in ((COUNTS, []), (HERE / "family_counts.csv", [str(HERE / "family_configs.json")])):
        made = subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert made.stdout == path.read_text(encoding="utf-8")


def test_active_parameters_are_those_in_the_name() -> None:
    for id in shipped_models():
        named = re.search(r"-A(\d+)B", id)
        if named:
            assert find_model(id).active_parameters / 1e9 == pytest.approx(float(named[1]), rel=0.25), id


def test_every_token_passes_through_a_dense_model() -> None:
    spec = find_model("meta-llama/Meta-Llama-3.1-8B")
    assert spec.active_parameters == spec.parameters == 8_030_261_248


@pytest.mark.parametrize(
    ("id", "kv_bytes"),
    [
        ("meta-llama/Meta-Llama-3.1-8B", 32 * 8 * 128 * 2 * 2),
        ("deepseek-ai/DeepSeek-V3", 61 * 576 * 2),
        ("deepseek-ai/DeepSeek-V3.2", 61 * (576 + 128) * 2),
        ("zai-org/GLM-5.2", (78 * 576 + 21 * 128) * 2),
        ("openai/gpt-oss-20b", 12 * 8 * 64 * 2 * 2),
        ("tiiuae/falcon-7b", 32 * 64 * 2 * 2),
        ("state-spaces/mamba-2.8b-hf", 0),
        ("deepseek-ai/DeepSeek-V4-Flash", (21 * (512 + 128) / 4 + 20 * 512 / 128) * 2),
    ],
)
def test_one_more_token_of_a_long_context_costs(id: str, kv_bytes: float) -> None:
    assert describe(find_model(id))["kv_bytes_per_token"] == kv_bytes


def test_a_window_bounds_the_cache() -> None:
    spec = find_model("mistralai/Mistral-7B-v0.1")
    assert spec.cache_elements(4096) == spec.cache_elements(32768) == 32 * 8 * 128 * 2 * 4096
    assert spec.cache_elements(100) == 32 * 8 * 128 * 2 * 100


def test_half_of_gpt_oss_slides_with_sinks() -> None:
    mixers = [layer.mixer for layer in find_model("openai/gpt-oss-20b").layers]
    assert all(isinstance(mixer, SelfAttention) and mixer.sinks for mixer in mixers)
    assert [mixer.window for mixer in mixers if isinstance(mixer, SelfAttention)] == [128, None] * 12


def test_llama_4_attends_in_chunks_but_every_fourth_layer_to_all() -> None:
    mixers = [layer.mixer for layer in find_model("meta-llama/Llama-4-Scout-17B-16E-Instruct").layers]
    assert [isinstance(mixer, SelfAttention) and mixer.chunked for mixer in mixers] == [True, True, True, False] * 12


def test_a_sparse_layer_reads_what_its_indexer_chose() -> None:
    mixer = find_model("deepseek-ai/DeepSeek-V3.2").layers[0].mixer
    assert isinstance(mixer, LatentAttention)
    assert mixer.attended_tokens(100) == 100
    assert mixer.attended_tokens(100_000) == 2048


def test_a_compressed_layer_reads_its_window_and_the_entries_outside() -> None:
    flash = find_model("deepseek-ai/DeepSeek-V4-Flash")
    window, sparse, heavy = (flash.layers[index].mixer for index in (0, 2, 3))
    assert isinstance(window, LatentAttention)
    assert isinstance(sparse, LatentAttention)
    assert isinstance(heavy, LatentAttention)
    assert window.attended_tokens(65536) == 128
    assert sparse.attended_tokens(65536) == 128 + 512
    assert heavy.attended_tokens(65536) == 128 + 65536 // 128
    assert window.cached_elements(65536) == 128 * 512


@pytest.mark.parametrize(
    ("id", "kind", "layers", "state_bytes"),
    [
        ("state-spaces/mamba-2.8b-hf", "mamba", 64, 4 * 5120 * 16 + 2 * 5120 * 3),
        ("state-spaces/mamba2-2.7b", "mamba2", 64, 4 * 5120 * 128 + 2 * 5376 * 3),
        ("RWKV/rwkv-4-7b-pile", "rwkv4", 32, 4 * 3 * 4096 + 2 * 2 * 4096),
        ("Qwen/Qwen3.5-35B-A3B", "gated-delta", 30, 4 * 32 * 128 * 128 + 2 * 8192 * 3),
        ("nvidia/Nemotron-H-56B-Base-8K", "mamba2", 54, 4 * 16384 * 256 + 2 * 20480 * 3),
    ],
)
def test_recurrent_layers_keep_a_state_of_fixed_size(id: str, kind: str, layers: int, state_bytes: int) -> None:
    mixers = [layer.mixer for layer in find_model(id).recurrent_layers]
    assert len(mixers) == layers
    assert all(isinstance(mixer, RecurrentMixer) and mixer.kind == kind and mixer.state_bytes == state_bytes for mixer in mixers)


def test_equal_layers_are_one_object() -> None:
    for id in shipped_models():
        layers = find_model(id).layers
        assert len(set(map(id_of, layers))) == len(set(layers)), id


def test_a_vision_language_config_is_planned_for_its_language_model_alone() -> None:
    spec = find_model("Qwen/Qwen3-VL-8B-Instruct")
    assert spec.language_model_only
    assert spec.parameters == find_model("Qwen/Qwen3-8B").parameters
    assert not find_model("Qwen/Qwen3-8B").language_model_only


def test_layer_and_matrix_counts_add_up_to_the_whole() -> None:
    for id in shipped_models():
        spec = find_model(id)
        assert sum(count for _, count in spec.layer_counts()) == len(spec.layers), id
        inside = sum(count * matrix.parameters for matrix, count in spec.matrices())
        vectors = sum(layer.vector_parameters for layer in spec.layers)
        outside = spec.embedding.parameters + (spec.head.parameters if spec.head else 0) + spec.vector_parameters
        assert inside + vectors + outside == spec.parameters, id


def test_finding_a_model_loads_nothing_heavy() -> None:
    code = (
        "import sys; from advisor.profiles.model_store import find_model; find_model('meta-llama/Meta-Llama-3.1-8B');"
        "print([name for name in ('torch', 'transformers', 'numpy', 'pydantic', 'urllib.request') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent.parent)
    assert done.stdout.strip() == "[]"


def id_of(value: object) -> int:
    return id(value)


@pytest.mark.parametrize(
    ("id", "steps"),
    [
        ("openai/gpt-oss-120b", ((0, 73728), (128, 36864))),
        ("google/gemma-4-26B-A4B", ((0, 4 * 25 * 8 * 256 + 4 * 5 * 2 * 512), (1024, 4 * 5 * 2 * 512))),
        ("meta-llama/Meta-Llama-3.1-8B", ((0, 131072),)),
        ("mistralai/Mistral-7B-v0.1", ((0, 131072), (4096, 0))),
    ],
)
def test_the_cache_grows_by_less_once_a_window_is_full(id: str, steps: tuple[tuple[int, int], ...]) -> None:
    assert tuple((tokens, 2 * elements) for tokens, elements in find_model(id).cache_steps) == steps


@pytest.mark.slow
def test_the_table_of_towers_is_what_transformers_builds_today() -> None:
    tool = TOOL.with_name("count_towers.py")
    made = subprocess.run([sys.executable, str(tool), str(HERE / "tower_configs.json")], capture_output=True, text=True, check=True)
    assert made.stdout == (HERE / "tower_counts.csv").read_text(encoding="utf-8")
