"""Properties of the estimator: monotonicity, memory computed by hand, simulation against closed form."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.backends.deployment import Attention, AttentionBackend, Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.memory.cache import kv_bytes_of_sequence
from advisor.estimate.memory.ledger import device_weight_bytes, ledger
from advisor.estimate.operators.build import PricingModel, step_operators
from advisor.estimate.operators.structure import touched_experts
from advisor.estimate.operators.types import EXACT, AllReduce, AttentionCall, Exchange, Gemm, Phase, StepPart
from advisor.estimate.uncertainty.ranges import spread
from advisor.profiles.engines import load_engine, shipped_engines
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import Hardware, load_hardware
from advisor.profiles.metrics import Basis
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload

DENSE, EXPERTS, LATENT, WINDOWS = (
    "meta-llama/Meta-Llama-3.1-8B",
    "Qwen/Qwen3-30B-A3B",
    "deepseek-ai/DeepSeek-V3",
    "openai/gpt-oss-20b",
)


def estimator(hardware: str | Hardware = "h100-sxm", engine: str = "vllm") -> Estimator:
    profile = load_engine(engine)
    return Estimator(CatalogueMachine(load_hardware(hardware) if isinstance(hardware, str) else hardware, profile.gpu), profile)


def deployment(
    model: str = DENSE, weights: str = "bf16", *, kv: str = "bf16", slots: int = 256, parallel: Parallel | None = None
) -> Deployment:
    return Deployment(
        model=find_model(model),
        weights=Weights(weights),
        attention=Attention(AttentionBackend.SDPA),
        kv=KvCache(KvLayout.PAGED, 16, kv),
        batching=Batching(BatchPolicy.CONTINUOUS, slots, 0),
        parallel=parallel or Parallel(),
    )


@pytest.mark.parametrize("model", [DENSE, EXPERTS, WINDOWS])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_more_bandwidth_is_never_slower(model: str, engine: str) -> None:
    slow = load_hardware("h100-sxm")
    fast = slow.model_copy(update={"memory_bandwidth_bytes_per_s": 1.5 * slow.memory_bandwidth_bytes_per_s})
    for batch in (1, 16, 128):
        times = [estimator(hardware, engine).pricer(deployment(model)).decode_s(batch, 2048) for hardware in (slow, fast)]
        assert times[1] <= times[0], (model, engine, batch, times)


@given(batch=st.integers(1, 256), context=st.integers(64, 30_000), longer=st.floats(1.2, 4.0))
def test_longer_contexts_are_never_faster(batch: int, context: int, longer: float) -> None:
    pricer = SHARED.pricer(deployment())
    assert pricer.decode_s(batch, context * longer) >= pricer.decode_s(batch, context)


@given(batch=st.integers(1, 200), times=st.integers(2, 4))
def test_a_larger_batch_takes_longer_but_less_per_sequence(batch: int, times: int) -> None:
    pricer = SHARED.pricer(deployment())
    small, large = pricer.decode_s(batch, 1024), pricer.decode_s(times * batch, 1024)
    assert small <= large * 1.02, (small, large)
    assert large / times <= small * 1.02, (small, large)


@given(sequences=st.integers(0, 500), tokens=st.integers(1, 8000))
def test_memory_grows_with_sequences_and_their_length(sequences: int, tokens: int) -> None:
    engine = load_engine("vllm")
    sizes = [
        ledger(deployment(), Workload(prompt_tokens=prompt, output_tokens=128, concurrency=1), engine, count).total_bytes
        for prompt, count in ((tokens, sequences), (tokens, sequences + 1), (tokens + 64, sequences + 1))
    ]
    assert sizes == sorted(sizes)


def test_ledger_of_llama_8b_by_hand() -> None:
    """8.03 billion parameters in two bytes; 32 layers of 8 heads of 128 for keys and values in two bytes are 128 KiB a token."""
    memory = ledger(deployment(), Workload(prompt_tokens=1000, output_tokens=24, concurrency=10), load_engine("vllm"), 10)
    assert memory.weights_bytes == pytest.approx(2 * 8_030_261_248)
    assert memory.kv_bytes == 10 * 1024 * 131_072
    assert memory.context_bytes == pytest.approx(0.7 * GIB)


def test_cache_of_latent_attention_by_hand() -> None:
    """DeepSeek-V3: 61 layers of 512 + 64 elements, two bytes each, and no copy per head."""
    assert kv_bytes_of_sequence(deployment(LATENT, "fp8"), 1000) == 1000 * 61 * 576 * 2


def test_windows_bound_the_cache() -> None:
    """gpt-oss-20b: 12 of its 24 layers keep 128 tokens, the others everything; 8 heads of 64, keys and values, two bytes."""
    per_token = 2 * 8 * 64 * 2
    assert kv_bytes_of_sequence(deployment(WINDOWS), 10_000) == 12 * per_token * (128 + 10_000)


def test_a_tensor_parallel_group_splits_weights_and_heads() -> None:
    workload, engine = Workload(prompt_tokens=1000, output_tokens=24, concurrency=10), load_engine("vllm")
    whole = ledger(deployment(), workload, engine, 10)
    quarter = ledger(deployment(parallel=Parallel(tensor=4)), workload, engine, 10)
    assert quarter.weights_bytes == whole.weights_bytes / 4
    assert quarter.kv_bytes == whole.kv_bytes / 4


def test_experts_may_be_spread_wider_than_attention() -> None:
    """Four attention replicas that share the experts hold a quarter of the experts and all of the rest."""
    alone, shared = (device_weight_bytes(deployment(EXPERTS, parallel=p)) for p in (Parallel(), Parallel(data=4, expert=4)))
    split = device_weight_bytes(deployment(EXPERTS, parallel=Parallel(tensor=4)))
    assert alone / 4 == pytest.approx(split)
    assert split < shared < alone / 2


def test_experts_are_one_grouped_product_over_those_that_are_touched() -> None:
    """One token of Qwen3-30B-A3B meets 8 of 128 experts; 1000 tokens meet all."""
    for rows, groups in ((1, 8.0), (1000, 128.0)):
        operators = step_operators(PricingModel.of(deployment(EXPERTS)), (StepPart(Phase.DECODE, rows, 1, 100),))
        routed = [op for op in operators if isinstance(op, Gemm) and op.routed]
        assert {round(op.groups, 3) for op in routed} == {groups}


def test_touched_experts_grow_towards_all() -> None:
    matrix = next(m for m, _ in find_model(EXPERTS).matrices() if m.kind == "expert")
    counts = [touched_experts(matrix, rows) for rows in (1, 2, 8, 64, 4096)]
    assert counts[0] == pytest.approx(8)
    assert counts == sorted(counts)
    assert counts[-1] == pytest.approx(128)


def test_collectives_follow_the_layout() -> None:
    def kinds(parallel: Parallel) -> set[str]:
        operators = step_operators(PricingModel.of(deployment(EXPERTS, parallel=parallel)), (StepPart(Phase.DECODE, 8, 1, 100),))
        return {type(op).__name__ for op in operators if isinstance(op, AllReduce | Exchange)}

    assert kinds(Parallel()) == set()
    assert kinds(Parallel(tensor=4)) == {"AllReduce"}
    assert kinds(Parallel(data=4)) == set()
    assert kinds(Parallel(data=4, expert=4)) == {"Exchange"}


@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_simulation_and_closed_form_agree_in_the_steady_state(concurrency: int) -> None:
    workload = Workload(prompt_tokens=1024, output_tokens=512, concurrency=concurrency)
    stack = deployment(slots=concurrency)
    closed_form, served = SHARED.steady_state(stack, workload), SHARED.simulate(stack, workload)
    assert closed_form.throughput_tok_s == pytest.approx(served.throughput_tok_s, rel=0.12)
    assert closed_form.tpot_ms == pytest.approx(1e3 * sum(served.tpot_s) / len(served.tpot_s), rel=0.12)


def test_a_closed_loop_obeys_littles_law() -> None:
    workload = Workload(prompt_tokens=1024, output_tokens=512, concurrency=32)
    served = SHARED.simulate(deployment(), workload)
    lasts = sum(served.ttft_s) / len(served.ttft_s) + 511 * sum(served.tpot_s) / len(served.tpot_s)
    assert served.throughput_tok_s == pytest.approx(32 * 512 / lasts, rel=0.1)


def test_replicas_multiply_throughput() -> None:
    alone = SHARED.simulate(deployment(), Workload(prompt_tokens=256, output_tokens=64, concurrency=16))
    four = SHARED.simulate(deployment(parallel=Parallel(data=4)), Workload(prompt_tokens=256, output_tokens=64, concurrency=64))
    assert four.throughput_tok_s == pytest.approx(4 * alone.throughput_tok_s)


def test_offline_throughput_is_not_beaten_by_a_smaller_loop() -> None:
    offline = SHARED.simulate(deployment(), Workload(prompt_tokens=512, output_tokens=256, load=Load.OFFLINE))
    loop = SHARED.simulate(deployment(), Workload(prompt_tokens=512, output_tokens=256, concurrency=32))
    assert offline.throughput_tok_s > loop.throughput_tok_s


def test_engines_that_take_a_share_of_free_memory_fit_more_sequences_with_large_weights() -> None:
    """TensorRT-LLM takes 0.9 of what is free, vLLM 0.92 of everything: 8B in bf16 leaves both about the same, 34B does not."""
    workload = Workload(prompt_tokens=1000, output_tokens=1000, concurrency=1)
    large = deployment("codellama/CodeLlama-34b-hf")
    assert estimator(engine="tensorrt-llm").memory.max_sequences(large, workload) > estimator(engine="vllm").memory.max_sequences(
        large, workload
    )


def test_what_does_not_fit_holds_no_request() -> None:
    workload = Workload(prompt_tokens=100, output_tokens=100, concurrency=1)
    assert SHARED.memory.capacity(deployment("meta-llama/Meta-Llama-3.1-70B"), workload).max_sequences == 0


def test_prices_are_the_same_on_every_batching_policy() -> None:
    stack = deployment()
    assert SHARED.pricer(stack) is SHARED.pricer(replace(stack, batching=Batching(BatchPolicy.STATIC, 4, 0)))


@pytest.mark.parametrize("name", shipped_engines())
def test_every_engine_says_where_its_numbers_are_from(name: str) -> None:
    engine = load_engine(name)
    assert all((engine.gpu.source, engine.cpu.source, engine.memory_share_source, engine.context_source))


@pytest.mark.parametrize("basis", list(Basis))
@pytest.mark.parametrize("metric", ["ttft", "tpot", "throughput", "prefill", "memory", "concurrency"])
def test_a_range_holds_the_prediction(metric: str, basis: Basis) -> None:
    below, above = spread(metric, basis)
    assert 0 < below <= 1 <= above


SHARED = estimator()


def test_an_indexer_scores_every_cached_token() -> None:
    model = find_model("zai-org/GLM-5")
    blueprint = PricingModel.of(Deployment(model, Weights("fp8")))
    operators = [
        operator for operator in step_operators(blueprint, (StepPart(Phase.DECODE, 4, 1, 8000),)) if isinstance(operator, AttentionCall)
    ]
    chosen, scored = (next(operator for operator in operators if (operator.value_dim == 0) is indexer) for indexer in (False, True))
    assert (scored.kv_tokens, scored.q_heads, scored.head_dim) == (8000, 32, 128)
    assert chosen.kv_tokens == 2048


@pytest.mark.parametrize("hardware", ["h100-sxm", "rtx-4090"])
@pytest.mark.parametrize("engine", ["advisor", "vllm", "transformers"])
@pytest.mark.parametrize("shape", [(1, 1, 300), (32, 1, 4096), (1, 2048, 2048)])
def test_the_fastest_attention_takes_no_longer_than_any_exact_one(hardware: str, engine: str, shape: tuple[int, int, int]) -> None:
    machine = CatalogueMachine(load_hardware(hardware), load_engine(engine).gpu)
    phase: Phase = Phase.DECODE if shape[1] == 1 else Phase.PREFILL
    call = AttentionCall(phase, *shape, 32, 8, 128, 128, AttentionBackend.AUTO, KvLayout.PAGED, "bf16", 1)
    others = [machine.attention_s(replace(call, backend=name)) for name in EXACT]
    assert machine.attention_s(call) == min(others)
    assert machine.attention_s(replace(call, backend=machine.cost_equivalent(AttentionBackend.AUTO))) == min(others)
