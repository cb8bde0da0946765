"""Verdicts of the runtime on models, stored so that each is reached once: one small file by the digest of what it depends on."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from advisor.profiles.errors import AdvisorError
from advisor.profiles.files import regular_bytes, write_whole
from advisor.profiles.json_text import parse_json

MOST_BYTES = 16_384
"""Size above which a file is no verdict."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the runtime gives a model's own tokens."""

    fault: str | None
    """What is wrong, as a sentence; `None` where nothing is."""


def verdicts_folder() -> Path:
    """The folder of verdicts: `$XDG_DATA_HOME/advisor/verdicts`."""
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "advisor" / "verdicts"


def digest_of(facts: Mapping[str, object]) -> str:
    """The digest of the facts that a verdict depends on; they are values that JSON has."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def read_verdict(digest: str) -> Verdict | None:
    """The stored verdict; `None` where there is none, or where its file cannot be read or is that of another digest."""
    file = verdicts_folder() / f"{digest}.json"
    try:
        record = parse_json(regular_bytes(file, MOST_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.keys() != {"digest", "fault"} or record["digest"] != digest:
        return None
    fault = record["fault"]
    return Verdict(fault) if fault is None or isinstance(fault, str) else None


def write_verdict(digest: str, verdict: Verdict) -> None:
    """Store the verdict; where nothing can be written it is reached again the next time."""
    text = json.dumps({"digest": digest, "fault": verdict.fault}, indent=1) + "\n"
    try:
        write_whole(verdicts_folder() / f"{digest}.json", text)
    except AdvisorError:
        return
