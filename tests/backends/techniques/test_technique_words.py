"""Techniques with options, as people type them and as requests and plans hold them."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from advisor.backends import techniques
from advisor.backends.technique import Technique
from advisor.backends.technique_names import canonical_specs, parse_technique, settings_of
from advisor.backends.techniques.attention_block_sparse import AttentionBlockSparse
from advisor.backends.techniques.kv_window import KvWindow
from advisor.backends.techniques.weights_int4 import WeightsInt4
from advisor.planfile.file import request_of
from advisor.planfile.from_advice import plan_of
from advisor.planfile.store import read_plan, save_plan
from advisor.planning.question import PlanQuestion
from advisor.profiles.errors import AdvisorError
from advisor.profiles.request import Request, Workload
from advisor.service import plan

SHORT = Request(workload=Workload(prompt_tokens=512, output_tokens=64, concurrency=2))
WINDOWED = PlanQuestion(model="demo", hardware="h100-sxm", profile="none", require=("kv-window:window=128",), concurrency=2, offline=True)


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("kv-window", "kv-window"),
        ("kv-window:window=128", "kv-window:window=128"),
        ("kv-sinks:window=124,first=4", "kv-sinks:first_tokens=4,window=124"),
        ("kv-sinks:first-tokens=0", "kv-sinks:first_tokens=0"),
        ("weights-int4:head=TRUE, group=32", "weights-int4:group_size=32,head=true"),
    ],
)
def test_a_word_is_read_into_whole_names_and_reads_back_as_itself(typed: str, full: str) -> None:
    assert canonical_specs((typed, full)) == (full,)


@pytest.mark.parametrize(
    ("typed", "code", "help_line"),
    [
        ("kv-windw:window=3", "unknown-technique", "did you mean kv-window"),
        ("kv-window:", "usage", "write kv-window:window=4096"),
        ("kv-window:window", "usage", "write kv-window:window=4096"),
        ("kv-window:window=", "usage", "write kv-window:window=4096"),
        ("kv-window:size=3", "technique-option", "it takes window (int from 1)"),
        ("kv-window:window=0", "technique-option", "write kv-window:window=4096"),
        ("kv-window:window=true", "technique-option", "it takes window (int from 1)"),
        ("attention-flex:window=1", "technique-option", "it takes no options"),
    ],
)
def test_a_word_that_cannot_be_read_says_what_to_type(typed: str, code: str, help_line: str) -> None:
    with pytest.raises(AdvisorError) as raised:
        parse_technique(typed)
    assert raised.value.code == code
    assert any(line.startswith(help_line) for line in raised.value.help), raised.value.help


@dataclass(frozen=True)
class KvSample(KvWindow):
    """A technique as an extension may bring it: options of every type, one of them with a default of `None`."""

    name: ClassVar[str] = "kv-sample"
    window: int = 64
    keep: int | None = None
    policy: str | None = None
    exact: bool = False

    def variants(self) -> tuple[Technique, ...]:
        return (self,)


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(techniques, "TECHNIQUES", (*techniques.TECHNIQUES, KvSample))


@pytest.mark.parametrize(
    ("typed", "full", "options"),
    [
        ("kv-sample:keep=8", "kv-sample:keep=8", {"keep": 8}),
        ("kv-sample:keep=None,window=32", "kv-sample:window=32,keep=none", {"window": 32, "keep": None}),
        ("kv-sample:policy=12", "kv-sample:policy=12", {"policy": "12"}),
        ("kv-sample:policy=none,exact=true", "kv-sample:policy=none,exact=true", {"policy": None, "exact": True}),
    ],
)
@pytest.mark.usefixtures("_registered")
def test_an_option_whose_default_is_none_can_be_typed(typed: str, full: str, options: dict[str, object]) -> None:
    assert canonical_specs((typed, full)) == (full,)
    assert techniques.by_name("kv-sample", dict(parse_technique(typed).options)) == KvSample(**options)  # type: ignore[arg-type]
    assert settings_of(KvSample, SHORT.model_copy(update={"require": (full,)}))[0] == KvSample(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("typed", ["kv-sample:keep=0", "kv-sample:keep=true", "kv-sample:keep=some", "kv-sample:window=none"])
@pytest.mark.usefixtures("_registered")
def test_what_an_option_does_not_take_is_refused_with_what_it_takes(typed: str) -> None:
    with pytest.raises(AdvisorError) as raised:
        parse_technique(typed)
    types = "window (int from 1), keep (int from 1 or none), policy (str or none), exact (bool)"
    assert (raised.value.code, raised.value.help[0]) == ("technique-option", f"it takes {types}")


def test_required_options_are_fixed_and_the_others_vary() -> None:
    request = SHORT.model_copy(update={"require": ("kv-window:window=128", "attention-block-sparse:window=64", "weights-int4:head=true")})
    assert settings_of(KvWindow, request) == (KvWindow(128),)
    assert settings_of(AttentionBlockSparse, request) == (AttentionBlockSparse(64), AttentionBlockSparse(64, random_blocks=3))
    settings = settings_of(WeightsInt4, request)
    assert {setting.head for setting in settings if isinstance(setting, WeightsInt4)} == {True}
    assert len({setting.group_size for setting in settings if isinstance(setting, WeightsInt4)}) > 1
    assert settings_of(KvWindow, SHORT) == KvWindow().variants()


@pytest.mark.parametrize(
    ("word", "setting"),
    [
        ("kv-window:window=128", {"window": 128}),
        ("kv-sinks:first=4,window=124", {"first_tokens": 4, "window": 124}),
        ("attention-sliding-window:window=128", {"window": 128}),
        ("attention-block-sparse:window=64,global=16,block=16", {"window": 64, "global_tokens": 16, "block_tokens": 16}),
        ("weights-int4:group_size=32", {"group_size": 32}),
    ],
)
def test_a_short_model_is_planned_with_any_technique_by_its_options(word: str, setting: dict[str, object], tmp_path: Path) -> None:
    advice = plan(PlanQuestion(model="demo", hardware="h100-sxm", profile="none", require=(word,), concurrency=2, offline=True))
    save_plan(plan_of(advice), tmp_path / "plan.yaml")
    read = read_plan(tmp_path / "plan.yaml")
    chosen = next(applied for applied in read.apply.techniques if applied.name == word.partition(":")[0])
    assert setting.items() <= chosen.options.items()
    assert request_of(read) == advice.request
    assert read.limits.require == canonical_specs((word,))


def test_two_settings_of_one_technique_exclude_each_other() -> None:
    with pytest.raises(AdvisorError, match="`kv-window:window=64` and `kv-window:window=128` are both required"):
        plan(PlanQuestion(model="demo", profile="none", require=("kv-window:window=64", "kv-window:window=128"), offline=True))


def test_a_reach_that_no_sequence_exceeds_says_how_to_ask_for_a_shorter_one() -> None:
    with pytest.raises(AdvisorError) as raised:
        plan(PlanQuestion(model="demo", hardware="h100-sxm", profile="none", require=("kv-sinks",), concurrency=2, offline=True))
    assert raised.value.code == "requirement-refused"
    assert any("write --require kv-sinks:window=256" in note for note in raised.value.notes), raised.value.notes


def test_a_technique_that_is_required_with_options_is_said_to_be_required() -> None:
    why = {reason.technique: reason.why for reason in plan(WINDOWED).reasons}
    assert why["kv-window"].startswith("Required by the request"), why["kv-window"]
