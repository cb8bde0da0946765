"""The decoding program: buckets and padding, capture where there is a GPU, and what is said where a model cannot be captured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel
from tests.backends.sessions import with_settings

if TYPE_CHECKING:
    from torch import Tensor

    from advisor.backends.runtime.cache.pool import SequenceBlocks
    from advisor.backends.runtime.decode_program import DecodeProgram
    from advisor.backends.runtime.device.decode_batch import DecodeBatch, DecodeEntry

PAGED: dict[str, Any] = {"kv_layout": "paged", "kv_block_tokens": 16, "batching": "continuous"}


class Counting:
    """A model whose next token is the fed one plus its place, and that notes how many rows it was given."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, step: Any, ids: Tensor, positions: Tensor, rows: Tensor | None) -> Tensor:
        import torch

        self.rows.append(len(ids))
        return torch.nn.functional.one_hot((ids + positions) % 50, 50).float()


def program(forward: Any, *, padded: bool) -> DecodeProgram:
    import torch

    from advisor.backends.runtime.decode_program import DecodeProgram
    from advisor.backends.runtime.device.decode_batch import DecodeBatch
    from advisor.backends.runtime.sampler import GREEDY, Sampler

    def nothing(batch: DecodeBatch, count: int, sequences: Sequence[SequenceBlocks]) -> Any:
        return None

    return DecodeProgram(forward, nothing, Sampler(GREEDY), DecodeBatch(8, torch.device("cpu")), padded=padded)


def placed(number: int, position: int, token: int | None, source: int = 0) -> DecodeEntry:
    from advisor.backends.runtime.device.decode_batch import DecodeEntry

    return DecodeEntry(number=number, row=number, position=position, stored=position, token=token, source=source)


def test_buckets_hold_every_batch_with_little_padding() -> None:
    from advisor.backends.runtime.decode_program import BUCKETS, bucket, buckets

    assert [bucket(count) for count in (1, 2, 3, 5, 17, 33, 256, 257, 400)] == [1, 2, 4, 8, 24, 48, 256, 384, 512]
    assert all(bucket(count) >= count and bucket(bucket(count)) == bucket(count) for count in range(1, 600))
    assert all(bucket(count) <= 2 * count for count in range(1, 600))
    assert buckets(bucket(300)) == [*BUCKETS, 384]
    assert buckets(4) == [1, 2, 4]


def test_tokens_feed_themselves_back_without_the_host() -> None:
    model = Counting()
    run = program(model, padded=True)
    fed, positions = [7, 9, 11], [3, 0, 20]
    run.set_batch([placed(i, positions[i], fed[i]) for i in range(3)], None)
    tokens, captured = run.run(())
    for _ in range(4):
        fed, positions = (
            [(token + position) % 50 for token, position in zip(fed, positions, strict=True)],
            [position + 1 for position in positions],
        )
        assert tokens.tolist() == fed
        assert not captured
        run.set_batch([placed(i, positions[i], None, i) for i in range(3)], tokens)
        tokens, _ = run.run(())
    assert set(model.rows) == {4}, "three sequences decode as a batch of four entries"


def test_batches_are_padded_only_where_graphs_need_it() -> None:
    model = Counting()
    run = program(model, padded=False)
    for count in (3, 5):
        run.set_batch([placed(i, 2, 4) for i in range(count)], None)
        run.run(())
    assert model.rows == [3, 5]


gpu = pytest.mark.gpu


@gpu
@pytest.mark.parametrize("drawn", [False, True], ids=["greedy", "drawn"])
def test_captured_and_uncaptured_steps_choose_the_same_tokens(
    drawn: bool, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]
) -> None:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest, serve
    from advisor.backends.runtime.prepare import DeviceOptions
    from advisor.backends.runtime.sampler import GREEDY, Sampling

    model = build_model("llama", head_dim=64, hidden_size=256, intermediate_size=512).cuda()
    jobs = [GenerationRequest(tuple(range(3, 5 + i)), 20 - i) for i in range(5)]
    session = open_session(model, device=torch.device("cuda"), **PAGED)
    runs = [
        serve(
            session,
            jobs,
            concurrency=None,
            sampling=Sampling(temperature=0.8, top_p=0.9, seed=7) if drawn else GREEDY,
            device_options=DeviceOptions(kernels=True, captured=captured, overlap=two_slots),
        )
        for captured, two_slots in ((True, True), (True, False), (False, True), (False, False))
    ]
    assert len({tuple(done.tokens for done in run.finished) for run in runs}) == 1
    assert runs[0].uncaptured_because is None
    assert runs[0].captured_share > 0.7
    assert runs[2].captured_steps == 0


@gpu
@pytest.mark.parametrize("kv_format", ["bf16", "fp8", "int8", "int4"])
def test_graphs_generate_the_plain_paths_tokens_in_every_format(
    kv_format: str, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]
) -> None:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest, serve
    from advisor.backends.runtime.prepare import DeviceOptions

    model = build_model("qwen3", head_dim=64, hidden_size=256, intermediate_size=512, initializer_range=0.4).cuda()
    jobs = [GenerationRequest(tuple(range(3, 9 + 7 * i)), 12) for i in range(5)]
    session = open_session(model, device=torch.device("cuda"), kv_format=kv_format, **PAGED)
    plain, graphs = (
        serve(session, jobs, concurrency=None, device_options=drive) for drive in (DeviceOptions(), DeviceOptions.of(torch.device("cuda")))
    )
    assert [done.tokens for done in graphs.finished] == [done.tokens for done in plain.finished]
    assert graphs.captured_steps > 0


@gpu
def test_a_gpu_is_driven_with_graphs_and_two_slots(build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]) -> None:
    import torch

    from advisor.backends.runtime.engine import GenerationRequest, serve

    model = build_model("llama", head_dim=64, hidden_size=256).cuda().bfloat16()
    session = open_session(model, device=torch.device("cuda"), **PAGED)
    outcome = serve(session, [GenerationRequest((3, 4, 5), 40)] * 4, concurrency=None)
    assert outcome.fallback_reason is None
    assert outcome.captured_steps >= 36
    assert 0 <= outcome.host_gap_share < 1
    contiguous = serve(with_settings(session, kv_layout="contiguous"), [GenerationRequest((3, 4, 5), 10)] * 2, concurrency=2)
    assert contiguous.captured_steps > 0
