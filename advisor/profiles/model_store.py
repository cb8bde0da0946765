"""Finds a model by folder, file or id and reads its architecture."""

import json
from pathlib import Path
from typing import Any

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.model_config import read_config
from advisor.profiles.models import SNAPSHOTS, ModelSpec, shipped_models


def find_model(reference: str, *, offline: bool = True) -> ModelSpec:
    """The model named by a folder, a `config.json` or an id. Raises `AdvisorError` (`model-not-found`, `model-config`)."""
    path = Path(reference).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        return read_config(_load(path / "config.json"), id=path.resolve().name, where=str(path / "config.json"), folder=str(path))
    shipped = {name.lower(): name for name in shipped_models()}
    name = shipped.get(reference.lower())
    if name is None:
        raise AdvisorError("model-not-found", f"model `{reference}` not found", exit_code=ExitCode.MISSING)
    snapshot = SNAPSHOTS / f"{name.replace('/', '--', 1)}.json"
    return read_config(_load(snapshot), id=name, where=snapshot.name)


def _load(path: Path) -> dict[str, Any]:
    loaded = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict):
        raise AdvisorError("model-config", f"{path}: not a JSON mapping", exit_code=ExitCode.USAGE)
    return loaded
