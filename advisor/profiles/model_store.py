"""Finds a model by folder, file or id and reads its architecture from its config. Weights are not read."""

import json
import os
import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from advisor.profiles.architectures.read import read_config
from advisor.profiles.architectures.spec import SNAPSHOTS, ModelSpec, shipped_models
from advisor.profiles.checkpoint_files import with_files
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import FileTooLargeError, check_file_name, expanded, is_file, is_folder, regular_bytes
from advisor.profiles.json_text import parse_json

QUANTISATION_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""Files that describe the quantisation where `config.json` does not: of ModelOpt, AutoGPTQ and AWQ."""
MAX_CONFIG_BYTES = 16 * 1024**2
ZOO = Path(__file__).resolve().parent.parent / "backends" / "zoo"
DEMO = {"demo": "target", "demo-draft": "draft"}
# Models whose config differs from a shipped one only in token ids and generation defaults.
SAME_SHAPE = {
    "meta-llama/Llama-3.1-8B": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Meta-Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Meta-Llama-3.1-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-405B": "meta-llama/Meta-Llama-3.1-405B",
    "meta-llama/Llama-3.1-405B-Instruct": "meta-llama/Meta-Llama-3.1-405B",
    "meta-llama/Meta-Llama-3-8B-Instruct": "meta-llama/Meta-Llama-3-8B",
    "meta-llama/Meta-Llama-3-70B-Instruct": "meta-llama/Meta-Llama-3-70B",
    "meta-llama/Llama-3.2-1B-Instruct": "meta-llama/Llama-3.2-1B",
    "meta-llama/Llama-3.2-3B-Instruct": "meta-llama/Llama-3.2-3B",
    "meta-llama/Llama-2-7b-chat-hf": "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-2-13b-chat-hf": "meta-llama/Llama-2-13b-hf",
    "meta-llama/Llama-2-70b-chat-hf": "meta-llama/Llama-2-70b-hf",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "mistralai/Mixtral-8x7B-v0.1",
}
_MAX_COMMIT_BYTES = 256
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def find_model(reference: str, *, offline: bool = True) -> ModelSpec:
    """The model that `reference` names.

    Tried in this order: `demo` and `demo-draft`, a folder or `config.json`, the Hugging Face cache, a shipped snapshot by id or
    by the unambiguous part of it after the slash, a config fetched earlier, and, unless `offline`, the hub.
    Raises `AdvisorError`: `model-not-found`, `model-config`, and those of `fetch_config`.
    """
    if reference in DEMO:
        return _of_folder(ZOO / DEMO[reference], id=reference)
    path = expanded(reference)
    if is_file(path / "config.json"):
        return _of_folder(path, id=path.resolve().name)
    if path.name == "config.json" and is_file(path):
        return _of_folder(path.parent, id=path.resolve().parent.name)
    if path.suffix == ".json" and is_file(path):
        return read_config(load_json(path), id=path.stem, where=str(path))
    spec = _by_id(reference)
    if spec is not None:
        return spec
    if not offline and _HUB_ID.fullmatch(reference) and not os.path.lexists(path):
        from advisor.profiles.model_hub import fetch_config  # urllib takes tens of milliseconds to import

        fetch_config(reference, fetched_models())
        return _of_fetched(reference)
    raise _not_found(reference, path, offline)


def is_shipped(folder: str | None) -> bool:
    """Whether a folder of weights ships with the package."""
    return folder is not None and Path(folder).resolve() in {(ZOO / name).resolve() for name in DEMO.values()}


def load_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises `AdvisorError` `model-config` with the problem and its line."""
    problem, line = "", None
    try:
        loaded = parse_json(regular_bytes(path, MAX_CONFIG_BYTES).decode("utf-8-sig"))
        if isinstance(loaded, dict):
            return loaded
        problem = f"holds a {type(loaded).__name__}, not a mapping"
    except FileTooLargeError as error:
        problem = error.strerror or "too large"
    except OSError as error:
        problem = f"cannot be read: {(error.strerror or str(error)).lower()}"
    except json.JSONDecodeError as error:
        problem, line = f"not JSON: {error.msg.lower()} at line {error.lineno}, column {error.colno}", error.lineno
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text at byte {error.start}"
    except ValueError as error:
        problem = str(error)
    raise AdvisorError("model-config", f"{path}: {problem}", exit_code=ExitCode.USAGE, file=str(path), line=line, field="model")


def cached_models() -> tuple[str, ...]:
    """Ids of the models in the Hugging Face cache whose config is there, sorted."""
    folders = sorted(_hub_cache().glob("models--*--*"))
    ids = (folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders)
    return tuple(id for id in ids if _cached_snapshot(id) is not None)


def fetched_models() -> Path:
    """The folder of configs fetched from the hub: `$XDG_CACHE_HOME/advisor/models`."""
    return _cache_home() / "advisor" / "models"


def _of_folder(folder: Path, *, id: str, weights: bool = True) -> ModelSpec:
    config = folder / "config.json"
    if not is_file(config):
        raise AdvisorError(
            "model-not-found",
            f"model `{id}` is not installed",
            exit_code=ExitCode.MISSING,
            notes=(f"{config} is missing",),
            help=("install the package again",),
            field="model",
        )
    description = next((folder / name for name in QUANTISATION_FILES if is_file(folder / name)), None)
    spec = read_config(
        load_json(config),
        id=id,
        where=str(config),
        folder=str(folder.resolve()) if weights else None,
        quantisation=load_json(description) if description else None,
        quantisation_file=description.name if description else "",
    )
    return with_files(spec, folder)


def _by_id(reference: str) -> ModelSpec | None:
    """The model in the Hugging Face cache, shipped, or fetched earlier; `None` otherwise."""
    ids = {id.lower(): id for id in (*shipped_models(), *SAME_SHAPE)}
    tails: dict[str, list[str]] = {}
    for id in ids.values():
        tails.setdefault(id.lower().partition("/")[2], []).append(id)
    matches = tails.get(reference.lower(), [])
    id = ids.get(reference.lower()) or (matches[0] if len(matches) == 1 else reference)
    if not _HUB_ID.fullmatch(id):
        return None
    cached = _cached_snapshot(id)
    if cached is not None:
        return _of_folder(cached, id=id, weights=any(cached.glob("*.safetensors")))
    if id.lower() in ids:
        return _shipped(id)
    return _of_fetched(id) if (fetched_models() / f"{id.replace('/', '--', 1)}.json").is_file() else None


@lru_cache(maxsize=256)
def _shipped(id: str) -> ModelSpec:
    """A shipped model; one object for each, so that caches keyed by model compare by identity."""
    snapshot = SNAPSHOTS / f"{SAME_SHAPE.get(id, id).replace('/', '--', 1)}.json"
    return read_config(load_json(snapshot), id=id, where=snapshot.name)


def _of_fetched(id: str) -> ModelSpec:
    path = fetched_models() / f"{id.replace('/', '--', 1)}.json"
    modelopt = path.with_suffix(".hf_quant_config.json")
    return read_config(load_json(path), id=id, where=str(path), quantisation=load_json(modelopt) if is_file(modelopt) else None)


def _cached_snapshot(id: str) -> Path | None:
    """The folder of a model's main revision in the Hugging Face cache, if its config is there."""
    repository = _hub_cache() / f"models--{id.replace('/', '--', 1)}"
    main = repository / "refs" / "main"
    if not is_file(main):
        return None
    try:
        commit = regular_bytes(main, _MAX_COMMIT_BYTES).decode("utf-8", errors="replace").strip()
        folder = repository / "snapshots" / check_file_name(commit, what="commit of a cached model")
    except (OSError, AdvisorError):
        return None
    return folder if is_file(folder / "config.json") else None


def _hub_cache() -> Path:
    for name, subfolder in (("HF_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if os.environ.get(name):
            return expanded(os.environ[name]) / subfolder
    return _cache_home() / "huggingface" / "hub"


def _cache_home() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home) if home else Path.home() / ".cache"


def _not_found(reference: str, path: Path, offline: bool) -> AdvisorError:
    notes = []
    if is_folder(path):
        notes.append(f"{path} is a folder without a config.json")
    elif is_file(path):
        notes.append(f"{path} is a file, but no config.json" + ("; GGUF files are not read" if path.suffix == ".gguf" else ""))
    ids = (*shipped_models(), *SAME_SHAPE, *DEMO)
    matches = [id for id in ids if id.lower().endswith("/" + reference.lower())]
    near = matches or _near(reference, ids)
    if near:
        notes.append(("several models have that name: " if matches else "near matches: ") + ", ".join(near))
    if offline and _HUB_ID.fullmatch(reference) and not os.path.lexists(path):
        notes.append("the hub was not asked")
    return AdvisorError(
        "model-not-found",
        f"no model `{reference}`",
        exit_code=ExitCode.MISSING,
        notes=tuple(notes),
        help=("type a folder with a config.json, or an id that `advisor models` lists",),
        field="model",
        action=ErrorAction.CHOOSE,
    )


def _near(reference: str, ids: tuple[str, ...]) -> list[str]:
    """At most four ids with a spelling near `reference`, with or without the owner."""
    by_spelling = {id.lower(): id for id in ids} | {id.lower().partition("/")[2]: id for id in ids if "/" in id}
    wanted = reference.lower()
    close = get_close_matches(wanted, by_spelling, n=4, cutoff=0.6) + get_close_matches(
        wanted.rpartition("/")[2], by_spelling, n=4, cutoff=0.6
    )
    return list(dict.fromkeys(by_spelling[name] for name in close))[:4]
