"""The type of activations follows the device: its fastest by data sheet or profile, others where they have a gain."""

import pytest

from advisor.backends.deployment import baseline
from advisor.backends.detection.host import read_host
from advisor.backends.detection.own_hardware import cpu_hardware
from advisor.backends.techniques import by_name
from advisor.estimate.memory.cache import kv_bytes_of_sequence
from advisor.estimate.memory.ledger import weight_bytes
from advisor.planning.advise import advise
from advisor.planning.planner import Planner
from advisor.planning.search import search
from advisor.planning.target import planner_for, target_of_datasheet, target_of_profile
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import Hardware, fastest_first, load_hardware
from advisor.profiles.machine import MachineProfile
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Request, Workload
from advisor.profiles.store import load_profile
from tests.paths import HOSTS, ROOT

WORKLOAD = Workload(prompt_tokens=64, output_tokens=32, concurrency=1)
DEMO = find_model("demo")


def processor(host: str) -> Hardware:
    return cpu_hardware(read_host(HOSTS / host))


def planner(hardware: Hardware, engine: str = "advisor", model: str = "demo") -> Planner:
    return planner_for(find_model(model), target_of_datasheet(hardware, load_engine(engine)), load_engine(engine))


@pytest.mark.parametrize(
    ("hardware", "own", "dtypes"),
    [
        ("core-i9-13900k-2ch-ddr5-5600", "bf16", ("fp32", "bf16")),  # AVX2: no instructions for bf16
        ("core-i9-13900k-2ch-ddr5-5600", "fp32", ("fp32", "bf16")),
        ("epyc-9654-1s-96c-12ch-ddr5-4800", "bf16", ("bf16",)),
        ("h100-sxm", "bf16", ("bf16",)),
        ("h100-sxm", "fp16", ("fp16",)),
        ("h100-sxm", "fp32", ("bf16",)),
        ("t4", "bf16", ("fp16",)),  # compute capability 7.5: no bf16
        ("v100-sxm2-32g", "bf16", ("fp16",)),
        ("apple-m3-pro", "bf16", ("bf16",)),
    ],
)
def test_the_types_worth_choosing_from_are_those_that_the_device_computes(hardware: str, own: str, dtypes: tuple[str, ...]) -> None:
    assert load_hardware(hardware).emulating(0.25).dtypes(own) == dtypes


def test_measured_times_decide_whatever_the_data_sheet_says() -> None:
    assert fastest_first({"bf16": 4.0, "fp32": 1.0}, "bf16") == ("fp32", "bf16")
    assert fastest_first({"bf16": 1.0, "fp32": 1.02}, "bf16") == ("bf16",)
    assert fastest_first({"fp32": 1.0}, "bf16") == ("fp32",)


@pytest.mark.parametrize(("host", "dtype"), [("avx2", "fp32"), ("avx512-bf16", "bf16")])
def test_the_baseline_runs_in_the_fastest_type_of_the_processor(host: str, dtype: str) -> None:
    here = planner(processor(host))
    start = next(iter(search(DEMO, Request(workload=WORKLOAD), "advisor", here.dtypes))).deployment
    assert (start.dtype, start.kv.format) == (dtype, dtype)
    advice = advise(here, Request(workload=WORKLOAD))
    assert advice.chosen.deployment.dtype == dtype
    assert ("fp32, the checkpoint is in bf16" in advice.arithmetic_reason) is (dtype == "fp32")


def test_fp32_takes_twice_the_bytes_and_quantised_weights_keep_theirs() -> None:
    own, wide = baseline(DEMO, max_sequences=1), baseline(DEMO, max_sequences=1, dtypes=("fp32", "bf16"))
    assert weight_bytes(wide) == 2 * weight_bytes(own)
    assert kv_bytes_of_sequence(wide, 100) == 2 * kv_bytes_of_sequence(own, 100)
    request = Request(workload=WORKLOAD)
    int8 = by_name("weights-int8")
    assert int8.sketch(wide, request).dtype == "fp32"
    saved = weight_bytes(wide) - weight_bytes(int8.sketch(wide, request))
    assert saved == pytest.approx(3 * (weight_bytes(own) - weight_bytes(int8.sketch(own, request))), rel=0.02)


def test_a_prompt_in_emulated_bf16_takes_longer_than_in_fp32_on_paper() -> None:
    estimator = planner(processor("avx2"), model="meta-llama/Meta-Llama-3.1-8B").estimator
    start = baseline(find_model("meta-llama/Meta-Llama-3.1-8B"), max_sequences=1)
    fp32, bf16 = (estimator.pricer(start.in_dtype(dtype)).prefill_s(512, 512) for dtype in ("fp32", "bf16"))
    assert 2 < bf16 / fp32 < 4.5


def test_a_profile_decides_by_its_own_products() -> None:
    profile = load_profile(str(ROOT / "tests/canned/profile.yaml"))
    assert planner_of(profile).dtypes == ("bf16",), "only bf16 was measured"
    bf16 = [point for point in profile.gemm if point.format == "bf16"]
    faster = tuple(point.model_copy(update={"format": "fp32", "seconds": point.seconds / 3}) for point in bf16)
    attention = tuple(point.model_copy(update={"kv_format": point.kv_format.replace("bf16", "fp32")}) for point in profile.attention)
    measured = profile.model_copy(update={"gemm": (*profile.gemm, *faster), "attention": attention})
    there = planner_of(measured)
    assert there.dtypes == ("fp32", "bf16")
    request = Request(workload=WORKLOAD)
    plain = [stack for stack in search(DEMO, request, "advisor", there.dtypes) if stack.names <= {"dtype-bf16"}]
    prices = {stack.deployment.dtype: there.estimator.pricer(stack.deployment).prefill_s(256, 256) for stack in plain}
    assert prices["fp32"] < prices["bf16"]


def planner_of(profile: MachineProfile) -> Planner:
    return planner_for(DEMO, target_of_profile(profile), load_engine("advisor"))


def test_types_without_a_gain_are_refused_with_the_better_one_unless_required() -> None:
    start = baseline(DEMO, max_sequences=1, dtypes=("fp32", "bf16"))
    request = Request(workload=WORKLOAD)
    assert by_name("dtype-bf16").refuse(request, start) is None
    assert "runs in fp32 already" in (by_name("dtype-fp32").refuse(request, start) or "")
    assert (by_name("dtype-fp16").refuse(request, start) or "").startswith("bf16 is at least as fast")
    assert by_name("dtype-fp16").refuse(Request(workload=WORKLOAD, require=("dtype-fp16",)), start) is None
    on_bf16 = baseline(DEMO, max_sequences=1, dtypes=("bf16",))
    assert "half the bytes" in (by_name("dtype-fp32").refuse(request, on_bf16) or "")


def test_a_gpu_without_bf16_computes_in_fp16_in_any_engine_and_says_why() -> None:
    advice = advise(planner(load_hardware("t4"), "vllm", "Qwen/Qwen3-4B"), Request(workload=WORKLOAD))
    assert advice.chosen.deployment.dtype == "fp16"
    assert advice.arithmetic_reason.startswith("fp16, the checkpoint is in bf16: this device has no units for bf16")


def test_an_engine_that_converts_in_registers_keeps_the_type_of_the_checkpoint() -> None:
    assert planner(processor("avx2"), "llama.cpp").dtypes == ("bf16",)
    assert planner(processor("avx2")).dtypes == ("fp32", "bf16")
