import pytest

from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.formats import CACHE_FORMATS, check_cache_format, parse_weights, weight_format


@pytest.mark.parametrize(("name", "bits"), [("int4-g64", 4), ("exl2-4.65bpw", 4.65), ("exl2-3bpw", 3), ("fp8", 8)])
def test_families_of_formats_carry_their_number(name: str, bits: float) -> None:
    assert weight_format(name).bits == bits


@pytest.mark.parametrize("name", ["", "int4-g", "int4-g0", "int4-g-1", "int4-g³", "exl2-bpw", "exl2-fourbpw", "exl2-0bpw", "exl2-nanbpw"])
def test_what_is_no_format_is_refused_by_name(name: str) -> None:
    with pytest.raises(AdvisorError, match=f"unknown weight format `{name}`"):
        parse_weights(name)


def test_a_cache_is_not_stored_in_a_format_of_weights_only() -> None:
    assert all(check_cache_format(name) == weight_format(name).name for name in CACHE_FORMATS)
    with pytest.raises(AdvisorError, match="unknown cache format `gguf-q4_0`"):
        check_cache_format("gguf-q4_0")


@pytest.mark.parametrize(("name", "suggested"), [("Q4_K_M", "gguf-q4_k_m"), ("FP8", "fp8"), ("int8-w8", "int8-w8a8")])
def test_a_format_that_is_nearly_one_is_suggested(name: str, suggested: str) -> None:
    with pytest.raises(AdvisorError) as caught:
        weight_format(name)
    assert f"did you mean {suggested}" in caught.value.help[0]


@pytest.mark.parametrize(
    ("engine", "format", "runs"),
    [
        ("vllm", "int4-g128-gptq", True),
        ("vllm", "int3-g128-gptq", True),
        ("vllm", "w4a8-g128-sym", True),
        ("vllm", "bnb-nf4-dq", True),
        ("vllm", "int4-g64-mlx", False),
        ("advisor", "int4-g64", True),
        ("advisor", "int4-g128-zp", False),
        ("llama.cpp", "int4-g128", False),
    ],
)
def test_engines_load_formats_by_wildcards_and_exceptions(engine: str, format: str, runs: bool) -> None:
    assert load_engine(engine).runs(format) is runs
