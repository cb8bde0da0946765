"""Before its first use a model is compared with itself unplugged: it then gives its own tokens, or is refused with a sentence."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest

LONGROPE: dict[str, object] = {
    "rope_type": "longrope", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 32,
    "short_factor": [1.0] * 8, "long_factor": [1.5 * (pair + 1) for pair in range(8)],
}  # fmt: skip
DYNAMIC: dict[str, object] = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
BY_LENGTH: dict[str, dict[str, object]] = {
    "phi3": {"rope_parameters": LONGROPE, "original_max_position_embeddings": 32},
    "llama": {"rope_parameters": DYNAMIC, "max_position_embeddings": 32},
}
MASKED: dict[str, dict[str, object]] = {
    "qwen2_moe": {
        "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    },
    "phimoe": {"sliding_window": 7, "num_local_experts": 4},
    "mellum": {
        "sliding_window": 7, "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    },
}  # fmt: skip
SEQ2SEQ: dict[str, object] = {"d_model": 64, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 96}
OTHER: dict[str, tuple[dict[str, object], str]] = {
    "bart": (SEQ2SEQ, "its positions are not `position_ids`"),
    "mbart": (SEQ2SEQ, "its positions are not `position_ids`"),
    "blenderbot": (SEQ2SEQ, "its positions are not `position_ids`"),
    "roberta": ({"is_decoder": True}, "its own decoding with a cache gives other logits than one pass"),
    "moshi": ({"head_dim": 16, "sliding_window": 7}, "its own decoding with a cache gives other logits than one pass"),
    "bert": ({}, "not causal"),
    "electra": ({}, "not causal"),
}

Generate = Callable[[Any, Sequence["GenerationRequest"]], list[tuple[int, ...]]]


def requests(longest: int) -> list[GenerationRequest]:
    from advisor.backends.runtime.engine import GenerationRequest

    draw = random.Random(1)
    sizes = ((longest // 8, 5), (longest - 12, 10), (longest // 2, 8))
    return [GenerationRequest(tuple(draw.randrange(3, 64) for _ in range(prompt)), output) for prompt, output in sizes]


PACKED: dict[str, object] = {"max_sequences": 3, "kv_layout": "paged", "kv_block_tokens": 4, "batching": "continuous", "token_budget": 9}


@pytest.mark.parametrize("architecture", MASKED)
def test_windows_that_only_the_mask_has_are_attended_within(
    architecture: str, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel], generate: Generate
) -> None:
    from advisor.backends.runtime.engine import serve

    model, jobs = build_model(architecture, **MASKED[architecture]), requests(64)
    served = serve(open_session(model, **PACKED), jobs, concurrency=None)
    assert [done.tokens for done in served.finished] == generate(model, jobs)


@pytest.mark.parametrize("architecture", BY_LENGTH)
def test_rotary_frequencies_that_change_with_the_length_are_refused_beyond_it(
    architecture: str, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel], generate: Generate
) -> None:
    from advisor.backends.runtime.engine import serve

    model, jobs = build_model(architecture, **BY_LENGTH[architecture]), requests(32)
    served = serve(open_session(model, max_tokens=32, **PACKED), jobs, concurrency=None)
    assert [done.tokens for done in served.finished] == generate(model, jobs)
    with pytest.raises(AdvisorError, match=r"up to 33 tokens cross the 32 after which its rotary frequencies change") as refusal:
        serve(open_session(model, max_tokens=33), jobs, concurrency=None)
    assert refusal.value.help == ("a context of at most 32 tokens keeps to one set of frequencies: --context 32",)


@pytest.mark.parametrize("architecture", BY_LENGTH)
def test_dependence_on_the_length_is_found_without_knowing_its_kind(architecture: str, build_model: Callable[..., Any]) -> None:
    import torch

    from advisor.backends.runtime.model.forward import TransformersForward, patched_attention
    from advisor.backends.runtime.model.verification import Verification, own_text

    model = build_model(architecture, **BY_LENGTH[architecture])
    with torch.inference_mode():
        own = own_text(model, 10), own_text(model, 20)
        with patched_attention(model):
            assert Verification(model, TransformersForward(model), own, max_tokens=31).fault() is None
            fault = Verification(model, TransformersForward(model), own, max_tokens=200).fault()
    assert fault is not None
    assert fault.startswith("its tokens depend on the longest sequence of a step")


@pytest.mark.parametrize("architecture", OTHER)
def test_other_positions_and_masks_are_refused(
    architecture: str, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]
) -> None:
    from advisor.backends.runtime.engine import serve

    changes, reason = OTHER[architecture]
    with pytest.raises(AdvisorError, match=reason) as refusal:
        serve(open_session(build_model(architecture, **changes)), requests(64), concurrency=None)
    assert refusal.value.code == "unsupported-model"


@pytest.mark.parametrize("architecture", ["bart", "moshi"])
def test_faults_are_found_in_bf16_too(architecture: str, build_model: Callable[..., Any]) -> None:
    import torch

    from advisor.backends.runtime.model.forward import prepared

    changes, reason = OTHER[architecture]
    with ExitStack() as undo, pytest.raises(AdvisorError, match=reason):
        prepared(build_model(architecture, **changes).to(torch.bfloat16), undo)


def test_rounding_in_bf16_is_no_fault(build_model: Callable[..., Any]) -> None:
    import torch

    from advisor.backends.runtime.model.forward import prepared

    for architecture in ("mixtral", "qwen2"):
        model = build_model(architecture, num_hidden_layers=6, initializer_range=0.08).to(torch.bfloat16)
        with ExitStack() as undo:
            prepared(model, undo, max_tokens=64)


def test_what_our_decoder_leaves_out_at_late_positions_alone_runs_the_models_own_code(
    build_model: Callable[..., Any], open_session: Callable[..., LoadedModel], generate: Generate
) -> None:
    """Ministral scales queries from `original_max_position_embeddings` on; behind a window, a lone token would not show it."""
    from advisor.backends.runtime.engine import serve

    rope = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 8.0, "original_max_position_embeddings": 32, "llama_4_scaling_beta": 0.1}
    model, jobs = build_model("ministral3", head_dim=16, sliding_window=7, rope_parameters=rope), requests(72)
    served = serve(open_session(model, **PACKED), jobs, concurrency=None)
    assert served.fallback_reason is not None
    assert served.fallback_reason.startswith("our logits differ")
    assert [done.tokens for done in served.finished] == generate(model, jobs)


def test_a_window_longer_than_any_text_of_the_comparison_is_known(build_model: Callable[..., Any]) -> None:
    from advisor.backends.runtime.model.forward import prepared

    model = build_model("qwen2_moe", **{**MASKED["qwen2_moe"], "sliding_window": 3000}, max_position_embeddings=8192)
    with ExitStack() as undo:
        assert prepared(model, undo, max_tokens=8000).windows == (3000, None)
    with ExitStack() as undo:
        assert prepared(model, undo, max_tokens=3000).windows == (None, None), "no sequence is longer"


def test_a_stored_verdict_is_believed_for_its_own_question_only(
    build_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advisor.backends.runtime.model.forward import prepared
    from advisor.profiles.verdicts import Verdict, verdicts_folder, write_verdict

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    def refused(model: Any, max_tokens: int = 64) -> str | None:
        with ExitStack() as undo:
            try:
                prepared(model, undo, max_tokens=max_tokens)
            except AdvisorError as error:
                return error.message
        return None

    model = build_model("llama")
    assert refused(model) is None
    files = list(verdicts_folder().iterdir())
    for file in files:
        write_verdict(file.stem, Verdict("it was found wrong before"))
    for same in (model, build_model("llama", seed=1)):
        assert refused(same) == "the runtime cannot run LlamaForCausalLM: it was found wrong before"
    assert refused(model, max_tokens=100) is None, "longer sequences are another question"
    assert refused(build_model("llama", rms_norm_eps=1e-5)) is None, "as is another config"
    for spoilt in ("", "{", "[]", '{"digest": "x", "fault": "other"}', "null", '{"fault": "other"}', "[" * 9000):
        for file in files:
            file.write_text(spoilt)
        assert refused(model) is None, spoilt
        assert all(file.read_text() != spoilt for file in files), "they are compared and stored again"


def test_a_stored_refusal_is_said_again(build_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from advisor.backends.runtime.model.forward import prepared

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    messages = []
    for _ in range(2):
        with ExitStack() as undo, pytest.raises(AdvisorError) as refusal:
            prepared(build_model("bart", **SEQ2SEQ), undo)
        messages.append(refusal.value.message)
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("mask", "window"),
    [
        (lambda _b, _h, query, key: key <= query, None),
        (lambda _b, _h, query, key: (key <= query) & (key > query - 5), 5),
        (lambda _b, _h, query, key: (key <= query) & (key > query - 100), None),
        (lambda _b, _h, query, key: query >= 0, "not causal"),
        (lambda _b, _h, query, key: (key <= query) & (key // 8 == query // 8), "neither causal nor a sliding window"),
        (lambda _b, _h, query, key: (key <= query) & ((key > query - 5) | (key < 2)), "neither causal nor a sliding window"),
    ],
)
def test_a_window_is_read_from_what_a_mask_hides(mask: Callable[..., torch.Tensor], window: int | str | None) -> None:
    import torch

    from advisor.backends.runtime.model.masks import UnknownMaskError, window_of

    if isinstance(window, str):
        with pytest.raises(UnknownMaskError, match=window):
            window_of(mask, 100, torch.device("cpu"))
    else:
        assert window_of(mask, 100, torch.device("cpu")) == window
