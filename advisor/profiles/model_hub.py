"""Fetches a model's config from the Hugging Face hub. Nothing else in planning uses a network."""

import os
import urllib.error
import urllib.request
from pathlib import Path

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import write_whole
from advisor.profiles.json_text import parse_json

TIMEOUT_S = 15.0
_MAX_BYTES = 16 * 1024**2


def fetch_config(id: str, folder: Path) -> Path:
    """Store the hub's `config.json` of `id` in `folder`, with `hf_quant_config.json` if there is one; return the config's path.

    Raises `AdvisorError`: `model-not-found`, `model-gated`, `hub-unreachable`, `model-config`, and those of `write_whole`.
    """
    path = folder / f"{id.replace('/', '--', 1)}.json"
    config = _fetch(id, "config.json")
    if config is None:
        raise AdvisorError(
            "model-not-found",
            f"no model `{id}`",
            exit_code=ExitCode.MISSING,
            notes=(f"{_url(id, 'config.json')} does not exist",),
            help=("check the id, or type a folder with a config.json",),
            field="model",
            action=ErrorAction.CORRECT,
        )
    modelopt = _fetch(id, "hf_quant_config.json")
    if modelopt is not None:
        write_whole(path.with_suffix(".hf_quant_config.json"), modelopt)
    return write_whole(path, config)


def _url(id: str, name: str) -> str:
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return f"{endpoint.rstrip('/')}/{id}/resolve/main/{name}"


def _fetch(id: str, name: str) -> str | None:
    """The JSON text of a file in a model's repository; `None` if it does not exist."""
    url = _url(id, name)
    request = urllib.request.Request(url, headers={"User-Agent": "advisor"})
    token = os.environ.get("HF_TOKEN")
    if token:
        # Not sent again on a redirect, which may lead to another host.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            text = str(answer.read(_MAX_BYTES + 1), "utf-8")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise _refused(id, url, error.code) from error
    except (OSError, ValueError) as error:
        raise AdvisorError(
            "hub-unreachable",
            f"cannot fetch the config of `{id}`",
            exit_code=ExitCode.MISSING,
            notes=(f"{url}: {getattr(error, 'reason', error)}",),
            help=("try again with a network, or type a folder with a config.json",),
            field="model",
            action=ErrorAction.CHOOSE,
        ) from error
    try:
        parse_json(text)
    except ValueError as error:
        raise AdvisorError("model-config", f"{url}: not JSON: {error}", exit_code=ExitCode.MISSING, field="model") from error
    return text


def _refused(id: str, url: str, status: int) -> AdvisorError:
    if status in (401, 403):
        return AdvisorError(
            "model-gated",
            f"the hub refuses access to `{id}`",
            exit_code=ExitCode.MISSING,
            notes=(f"{url} answered {status}: no such model, or one whose licence must be accepted first",),
            help=("accept the licence on the model's page and set HF_TOKEN, or type a folder with a config.json",),
            field="model",
            action=ErrorAction.CHOOSE,
        )
    return AdvisorError(
        "hub-unreachable",
        f"cannot fetch the config of `{id}`",
        exit_code=ExitCode.MISSING,
        notes=(f"{url} answered {status}",),
        field="model",
    )
