"""Settings of published runs that their rows do not state, by rules with sources: `profiles/evidence/published_runs.yaml`."""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from advisor.estimate.operators.structure import structure_of
from advisor.profiles.errors import AdvisorError
from advisor.profiles.evidence import FOLDER
from advisor.profiles.files import read_yaml
from advisor.profiles.frozen import Frozen
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model

Choices = str | int | tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of a run that its row does not state. `None` means the engine's default."""

    engine: str | None = None
    """Name of the engine profile for the version of the run."""
    length_share: float = 1.0
    """Mean length of prompts and answers as a share of the stated one."""
    length_spread: float | None = None
    """Lengths are uniform within ± this share."""
    token_budget: int | None = None
    """Most tokens of a step."""
    poll_steps: int = 1
    """Decoding steps between polls of the queue."""
    hold_steps: int = 0
    """Most decoding steps that waiting prompts are delayed to be batched with later ones."""
    hold_share: float = 0.0
    """Share of the token budget from which waiting prompts are not delayed."""
    kv: str | None = None
    memory_share: float | None = None
    attention_dp: bool = False
    """Attention is replicated on every device, and experts are divided among all of them."""
    draft_tokens: int = 0
    """Tokens drafted per step by the model's multi-token prediction."""
    decode_share: float = 1.0
    """Share of the devices that decode in a disaggregated deployment."""
    requests: int | None = None
    """Requests of an offline run."""
    static: bool = False
    """Static batching: one batch is prefilled, then decoded to its end."""

    def wait_steps(self, concurrency: int | None, prompt: int, output: int) -> float:
        """Mean decoding steps that a request waits: half of a polling interval, and the delay for batching.

        Requests arrive when others finish, `concurrency` in `output` steps. The first waits for the whole delay, those that join
        it for half of it on average; the delay ends early when prompts reach `hold_share` of the token budget.
        """
        polling = self.poll_steps / 2 if self.poll_steps > 1 else 0.0
        if not self.hold_steps or not concurrency or concurrency < 2:
            return polling
        rate = concurrency / output
        needed = max(self.hold_share * (self.token_budget or 0) / prompt - 1, 0.0)
        delay = min(float(self.hold_steps), needed / rate)
        joined = rate * delay
        return polling + delay * (1 + joined / 2) / (1 + joined)


class SettingRule(Frozen):
    """Settings of all rows that match `when`, and their source."""

    when: dict[str, Choices | bool]
    set: dict[str, Any]
    cite: str


NO_SETTINGS = RunSettings()


def run_settings(row: dict[str, str]) -> RunSettings:
    """The settings of the run behind a row: of all rules that match, later ones override."""
    settings = NO_SETTINGS
    for rule in _rules():
        if all(_matches(name, wanted, row) for name, wanted in rule.when.items()):
            settings = replace(settings, **{name: _resolved(name, value, row) for name, value in rule.set.items()})
    return settings


@cache
def _rules() -> tuple[SettingRule, ...]:
    path = FOLDER / "published_runs.yaml"
    return TypeAdapter(tuple[SettingRule, ...]).validate_python(read_yaml(path, what="published runs"))


def _matches(name: str, wanted: Choices | bool, row: dict[str, str]) -> bool:
    choices = wanted if isinstance(wanted, tuple) else (wanted,)
    match name:
        case "source":
            return any(row["source"].startswith(str(choice)) for choice in choices)
        case "model":
            return any(str(choice) in row["model"] for choice in choices)
        case "arch":
            return any(_arch(row["hardware"]).startswith(str(choice)) for choice in choices)
        case "experts":
            return _has_experts(row["model"]) is wanted
        case "tp_below":
            return _number(row["tp"], 1) < float(str(wanted))
        case "concurrency_from" | "devices_from":
            return _number(row[name.removesuffix("_from")], 0) >= float(str(wanted))
        case "version_below":
            return _version(row["engine_version"]) < _version(str(wanted))
        case _:
            return row[name].lower() in {str(choice).lower() for choice in choices}


def _resolved(name: str, value: Any, row: dict[str, str]) -> Any:
    if name != "token_budget":
        return value
    lengths = {"prompt": "prompt_tokens", "output": "output_tokens", "concurrency": "concurrency"}
    return int(sum(_number(row[lengths[term]], 0) if isinstance(term, str) else term for term in value))


def _number(text: str, absent: float) -> float:
    try:
        return float(text)
    except ValueError:
        return absent


def _version(text: str) -> tuple[int, ...]:
    """The first dotted number in a text; where there is none, one above any version."""
    match = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in match.group().split(".")) if match else (1 << 30,)


@cache
def _arch(hardware: str) -> str:
    try:
        return load_hardware(hardware).arch
    except AdvisorError:
        return ""


@cache
def _has_experts(model: str) -> bool:
    try:
        return structure_of(find_model(model)).expert_layers > 0
    except AdvisorError:
        return False
