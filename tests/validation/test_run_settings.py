"""What launch scripts of published measurements set."""

import pytest

from advisor.backends.deployment import Parallel
from advisor.profiles.engines import load_engine
from advisor.profiles.model_store import find_model
from advisor.validation.cases import COLUMNS, configuration_of
from advisor.validation.predict import deployment_of, workload_of
from advisor.validation.run_settings import NO_SETTINGS, RunSettings, run_settings

DATED = "aiconfigurator silicon sample (Apache-2.0) 2026-03-25T00:00:00.000Z"


def row(**given: str) -> dict[str, str]:
    usual = {"case_id": "a", "metric": "tpot_ms", "value": "10", "hardware": "b200-sxm", "devices": "8", "tp": "8", "engine": "sglang"}
    lengths = {"prompt_tokens": "1024", "output_tokens": "1024", "concurrency": "8", "load": "closed"}
    return dict.fromkeys(COLUMNS, "") | usual | lengths | {"model": "deepseek-ai/DeepSeek-R1", "weights": "fp8", "source": DATED} | given


def test_rows_of_unknown_publications_keep_the_engines_defaults() -> None:
    assert run_settings(row(source="a blog")) == NO_SETTINGS


@pytest.mark.parametrize(("concurrency", "steps"), [("8", 10), ("16", 30), ("64", 30)])
def test_later_rules_override_earlier_ones(concurrency: str, steps: int) -> None:
    assert run_settings(row(concurrency=concurrency)).poll_steps == steps


def test_budgets_are_sums_of_lengths_and_constants() -> None:
    settings = run_settings(row(engine="tensorrt-llm", model="meta-llama/Meta-Llama-3.1-70B", tp="4"))
    assert (settings.token_budget, settings.hold_steps) == (1024 + 1024 + 200, 20)
    assert run_settings(row(engine="tensorrt-llm", model="meta-llama/Meta-Llama-3.1-70B", tp="8")).hold_steps == 0


def test_lengths_are_drawn_below_the_stated_ones() -> None:
    configuration = configuration_of(row())
    workload = workload_of(configuration)
    assert (workload.prompt_tokens, workload.output_tokens, workload.length_spread) == (922, 922, 0.111)


def test_old_versions_have_their_own_profile() -> None:
    assert run_settings(row(engine="vllm", engine_version="vLLM 0.2.1", source="a blog")).engine == "vllm-0.2"
    assert run_settings(row(engine="vllm", engine_version="0.12.0", source="a blog")).engine is None
    assert run_settings(row(engine="vllm", engine_version="", source="a blog")).engine is None


def test_attention_is_replicated_where_the_run_says_so() -> None:
    source = "NVIDIA/TensorRT-LLM docs/source/performance/perf-overview.md @00f37686 (v1.0) Qwen3-30B-A3B"
    configuration = configuration_of(
        row(
            engine="tensorrt-llm",
            model="Qwen/Qwen3-30B-A3B",
            load="max",
            source=source,
            weights="nvfp4",
            metric="output_tok_s_total",
            concurrency="",
        )
    )
    deployment = deployment_of(configuration, find_model(configuration.model), load_engine(configuration.engine))
    assert deployment.parallel == Parallel(data=8, expert=8)
    dense = configuration_of(
        row(engine="tensorrt-llm", model="meta-llama/Llama-3.3-70B-Instruct", load="max", source=source, metric="output_tok_s_total")
    )
    assert deployment_of(dense, find_model(dense.model), load_engine(dense.engine)).parallel == Parallel(tensor=8)


def test_who_waits_for_a_poll_waits_for_half_of_it_on_average() -> None:
    assert RunSettings(poll_steps=10).wait_steps(4, 1024, 1024) == 5
    assert RunSettings().wait_steps(4, 1024, 1024) == 0


def test_holding_ends_when_prompts_fill_their_share_of_the_budget() -> None:
    delayed = RunSettings(hold_steps=20, hold_share=0.9, token_budget=2248)
    few, many = delayed.wait_steps(4, 922, 922), delayed.wait_steps(512, 922, 922)
    assert 15 < few <= 20
    assert 0 < many < 3
    assert delayed.wait_steps(1, 922, 922) == 0
