"""Quality is measured against the baseline, in pairs, through what the candidate runs with."""

from __future__ import annotations

import resource
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from advisor.backends.measure.quality import measure_baseline, measure_candidate, token_windows
from advisor.backends.measure.reference import collect, load_reference, save_reference
from advisor.backends.measure.rung import tokenise
from advisor.backends.measure.score import window_log_probs
from advisor.backends.model.load import load_session
from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError
from tests.backends.sessions import with_settings

if TYPE_CHECKING:
    import torch


def quiet(done: int, total: int) -> None:
    assert 0 < done <= total


@pytest.fixture(scope="module")
def session(tiny_model_folder: Path) -> LoadedModel:
    return load_session(tiny_model_folder, max_tokens=32)


@pytest.fixture(scope="module")
def windows(session: LoadedModel, tiny_text_file: Path) -> torch.Tensor:
    import torch

    tokens = session.tokenizer(tiny_text_file.read_text(), add_special_tokens=False)["input_ids"]
    return token_windows(torch.tensor(tokens), tokens_wanted=256, longest=64)


def test_scores_are_those_of_the_model_itself(session: LoadedModel, windows: torch.Tensor) -> None:
    import torch

    with torch.inference_mode():
        truth = session.model(windows).logits[:, :-1].float().log_softmax(-1)
    ours = torch.stack(list(window_log_probs(session, windows, quiet)))
    assert ours.shape == truth.shape
    assert (ours - truth).abs().max().item() < 0.15, "bf16 rounds differently in another attention, and no more than that"


def test_the_unchanged_model_is_at_no_distance_from_itself(session: LoadedModel, windows: torch.Tensor, tmp_path: Path) -> None:
    base = measure_baseline(session, windows, tmp_path / "reference", quiet)
    again = measure_candidate(session, tmp_path / "reference", quiet)
    assert base.perplexity is not None
    assert again.perplexity is not None
    assert again.perplexity.value == pytest.approx(base.perplexity.value, rel=1e-6)
    assert again.top1_agreement is not None
    assert again.top1_agreement.value == 1.0
    assert again.kl_divergence is not None
    assert again.kl_divergence.value < 1e-5, "what half precision leaves of it"


def test_a_spoilt_model_is_far_from_the_baseline(
    session: LoadedModel, windows: torch.Tensor, tmp_path: Path, tiny_model_folder: Path
) -> None:
    import torch

    base = measure_baseline(session, windows, tmp_path / "reference", quiet)
    spoilt = load_session(tiny_model_folder, max_tokens=32)
    with torch.no_grad():
        spoilt.model.model.layers[0].mlp.down_proj.weight.zero_()
    metrics = measure_candidate(spoilt, tmp_path / "reference", quiet).present()
    assert metrics["kl_divergence"].low > 0.01
    assert metrics["top1_agreement"].high < 1.0
    assert base.perplexity is not None
    assert metrics["nll_difference"].value == pytest.approx(log(metrics["perplexity"].value / base.perplexity.value), abs=1e-4)
    assert metrics["quality_loss_pct"].value == pytest.approx((exp(metrics["nll_difference"].value) - 1) * 100, rel=1e-6)
    assert metrics["quality_loss_pct"].low < metrics["quality_loss_pct"].value < metrics["quality_loss_pct"].high


def test_a_lossy_cache_shows_in_the_scores_and_more_the_fewer_bits_it_keeps(
    session: LoadedModel, windows: torch.Tensor, tmp_path: Path
) -> None:
    measure_baseline(session, windows, tmp_path / "reference", quiet)
    paged = with_settings(session, kv_layout="paged", kv_block_tokens=8)
    formats = ("bf16", "int8", "fp8", "int4")
    sessions = [with_settings(paged, kv_format=kv_format) for kv_format in formats]
    distances = [measure_candidate(altered, tmp_path / "reference", quiet).present()["kl_divergence"].value for altered in sessions]
    assert distances == sorted(distances), dict(zip(formats, distances, strict=True))
    assert distances[1] > 2 * distances[0], distances
    assert distances[3] < 0.5, distances


def test_a_window_within_the_newest_page_of_int4_is_scored_as_it_is(session: LoadedModel, windows: torch.Tensor, tmp_path: Path) -> None:
    """In the contiguous layout a page is 64 tokens, as long as these windows: nothing that is read was rounded to four bits."""
    measure_baseline(session, windows, tmp_path / "reference", quiet)
    contiguous, paged = (
        with_settings(session, kv_format="int4", kv_layout=layout, kv_block_tokens=8) for layout in ("contiguous", "paged")
    )
    near, far = (
        measure_candidate(altered, tmp_path / "reference", quiet).present()["kl_divergence"].value for altered in (contiguous, paged)
    )
    assert near < far / 5, (near, far)


def test_kept_tokens_and_the_rest_bound_the_divergence_from_below() -> None:
    import torch

    torch.manual_seed(0)
    window = torch.randint(0, 50, (1, 9))
    base, other = (torch.randn(1, 8, 50).mul(2).log_softmax(-1) for _ in range(2))
    whole = collect(window, base).divergence(0, other[0])
    part = collect(window, base, whole_vocabulary=10, stored_tokens=20).divergence(0, other[0])
    truth = (base[0].exp() * (base[0] - other[0])).sum(-1)
    assert torch.allclose(whole, truth, atol=2e-3)
    assert (part <= truth + 2e-3).all()
    assert (part > 0.5 * truth).all()


def test_a_reference_survives_the_disk_and_a_broken_one_is_an_error(windows: torch.Tensor, session: LoadedModel, tmp_path: Path) -> None:
    import torch

    made = collect(windows, window_log_probs(session, windows, quiet))
    save_reference(made, tmp_path / "reference")
    read = load_reference(tmp_path / "reference")
    assert torch.equal(read.log_probs, made.log_probs)
    assert torch.equal(read.nll, made.nll)
    (tmp_path / "reference").write_bytes(b"\x00" * 40)
    with pytest.raises(AdvisorError, match="cannot be read"):
        load_reference(tmp_path / "reference")


def test_windows_are_spread_over_the_text_and_no_longer_than_the_model_was_trained_for() -> None:
    import torch

    cut = token_windows(torch.arange(10_000), tokens_wanted=1000, longest=100)
    assert cut.shape == (10, 100)
    assert cut[0, 0] == 0
    assert cut[-1, 0] >= 9000
    with pytest.raises(AdvisorError, match="at least 32"):
        token_windows(torch.arange(20), tokens_wanted=10, longest=100)


def test_a_text_is_read_as_utf_8_up_to_a_bound(session: LoadedModel, tmp_path: Path) -> None:
    """A character that the bound cuts in two is left out; other bytes that are no text, and what is no file, are errors."""
    text = tmp_path / "text"
    text.write_text("xäää")
    assert session.tokenizer.decode(tokenise(session, text, limit_bytes=4).tolist()) == "xä"
    for content in (b"abc \xff\xfe", b"abc \xc3"):
        text.write_bytes(content)
        with pytest.raises(AdvisorError, match="not UTF-8"):
            tokenise(session, text)
    with pytest.raises(AdvisorError, match="it is not a regular file"):
        tokenise(session, Path("/dev/zero"))


def test_scores_are_written_in_place_of_a_link_and_only_of_tokens_that_exist(
    session: LoadedModel, windows: torch.Tensor, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "reference").symlink_to("victim")
    measure_baseline(session, windows, tmp_path / "reference", quiet)
    assert (tmp_path / "victim").read_text() == "untouched"
    assert load_reference(tmp_path / "reference").windows.equal(windows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reference", "victim"]
    with pytest.raises(AdvisorError, match="not in the model's vocabulary"):
        list(window_log_probs(session, windows + 10**6, quiet))


def test_scores_that_the_disk_has_no_room_for_leave_the_earlier_ones(session: LoadedModel, windows: torch.Tensor, tmp_path: Path) -> None:
    measure_baseline(session, windows, tmp_path / "reference", quiet)
    before = (tmp_path / "reference").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(AdvisorError) as caught:
            measure_baseline(session, windows, tmp_path / "reference", quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "disk-full"
    assert (tmp_path / "reference").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]
