"""Finding a model: folder, file, id, alias, caches, hub; and one clear error when there is none."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from advisor.profiles import model_store
from advisor.profiles.architectures.spec import shipped_models
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.model_store import SAME_SHAPE, find_model

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without caches or a token."""
    for name in ("HF_HUB_CACHE", "HF_HOME", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def refusal(reference: str, *, offline: bool = True) -> AdvisorError:
    with pytest.raises(AdvisorError) as caught:
        find_model(reference, offline=offline)
    return caught.value


def test_a_folder_and_its_config_are_the_same_model(home: Path) -> None:
    config = write(home / "mine" / "config.json", CONFIG)
    by_folder, by_file = find_model(str(config.parent)), find_model(str(config))
    assert by_folder == by_file
    assert by_folder.id == "mine"
    assert by_folder.folder == str(config.parent)


def test_a_lone_config_has_no_folder(home: Path) -> None:
    spec = find_model(str(write(home / "other.json", CONFIG)))
    assert (spec.id, spec.folder) == ("other", None)


def test_a_folder_with_modelopts_file_is_quantised(home: Path) -> None:
    write(home / "mine" / "config.json", CONFIG)
    write(home / "mine" / "hf_quant_config.json", {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}})
    assert find_model(str(home / "mine")).weight_format == "fp8"


@pytest.mark.parametrize("reference", ["meta-llama/Meta-Llama-3.1-8B", "META-LLAMA/meta-llama-3.1-8b", "Meta-Llama-3.1-8B"])
def test_a_shipped_id_is_found_in_any_case_and_by_its_last_part(reference: str) -> None:
    assert find_model(reference).id == "meta-llama/Meta-Llama-3.1-8B"


def test_an_alias_has_the_shape_of_a_shipped_model_and_its_own_name() -> None:
    assert set(SAME_SHAPE.values()) <= set(shipped_models())
    spec = find_model("meta-llama/llama-3.1-8b-instruct")
    assert spec.id == "meta-llama/Llama-3.1-8B-Instruct"
    assert spec.config_digest == find_model("meta-llama/Meta-Llama-3.1-8B").config_digest


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", None])
def test_the_hugging_face_cache_is_read(home: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    hub = {"HF_HUB_CACHE": home / "hub", "HF_HOME": home / "hf" / "hub", None: home / "cache" / "huggingface" / "hub"}[variable]
    if variable:
        monkeypatch.setenv(variable, str(hub if variable == "HF_HUB_CACHE" else hub.parent))
    repository = hub / "models--some--model"
    write(repository / "refs" / "main", "abc123\n")
    folder = write(repository / "snapshots" / "abc123" / "config.json", CONFIG).parent
    assert (find_model("some/model").id, find_model("some/model").folder) == ("some/model", None)
    write(folder / "model.safetensors", "")
    assert find_model("some/model").folder == str(folder.resolve())


def test_a_cached_download_comes_before_the_shipped_snapshot(home: Path) -> None:
    repository = home / "cache" / "huggingface" / "hub" / "models--Qwen--Qwen3-8B"
    write(repository / "refs" / "main", "abc")
    write(repository / "snapshots" / "abc" / "config.json", CONFIG)
    assert find_model("qwen/qwen3-8b").parameters == find_model(str(repository / "snapshots" / "abc")).parameters


@pytest.mark.parametrize(
    ("reference", "note"),
    [
        ("meta-llama/Meta-Lama-3.1-8B", "near matches: meta-llama/Meta-Llama-3.1-8B"),
        ("gpt-oss", "near matches: openai/gpt-oss-20b"),
        ("../../etc/passwd", ""),
        ("", ""),
    ],
)
def test_an_unknown_model_comes_with_near_ones(reference: str, note: str) -> None:
    error = refusal(reference)
    assert (error.code, error.exit_code) == ("model-not-found", ExitCode.MISSING)
    assert note in " ".join(error.notes)
    assert "config.json" in error.help[0]


def test_a_last_part_that_two_models_share_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "SAME_SHAPE", {"someone/Qwen3-8B": "Qwen/Qwen3-8B"})
    assert "several models have that name: Qwen/Qwen3-8B, someone/Qwen3-8B" in refusal("qwen3-8b").notes


def test_a_folder_without_a_config_is_named(home: Path) -> None:
    assert f"{home} is a folder without a config.json" in refusal(str(home)).notes


@pytest.mark.parametrize(
    ("content", "problem", "line"),
    [
        ('{"a": 1,\n oops}', "not JSON: expecting property name enclosed in double quotes at line 2, column 2", 2),
        ("", "not JSON: expecting value at line 1, column 1", 1),
        ("[1]", "holds a list, not a mapping", None),
        ("[" * 100_000, "nested too deeply", None),
    ],
)
def test_a_broken_config_is_refused_with_its_line(home: Path, content: str, problem: str, line: int | None) -> None:
    path = write(home / "broken" / "config.json", content)
    error = refusal(str(path.parent))
    assert (error.code, error.message, error.line) == ("model-config", f"{path}: {problem}", line)


HUGE = ("1" + "0" * 300, "1" + "0" * 5000, "9223372036854775807", "1099511627777")
OTHER_KINDS = ("-1", "0", "NaN", "Infinity", "1e400", "1.5", "true", '"8"', "[]")


@pytest.mark.parametrize("size", [*HUGE, *OTHER_KINDS])
@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "max_position_embeddings"])
def test_a_size_that_no_model_has_is_refused(home: Path, key: str, size: str) -> None:
    text = json.dumps(CONFIG | {key: "SIZE"}).replace('"SIZE"', size)
    error = refusal(str(write(home / "broken" / "config.json", text)))
    assert error.code == "model-config"
    assert f"`{key}`" in error.message or "thousands of digits" in error.message
    assert len(error.message) < 300


def test_a_config_that_is_no_regular_file_is_not_read(home: Path) -> None:
    (home / "pipe").mkdir()
    os.mkfifo(home / "pipe" / "config.json")
    (home / "zeros").mkdir()
    (home / "zeros" / "config.json").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        assert refusal(str(home / name)).code == "model-not-found"
        with pytest.raises(AdvisorError, match="cannot be read"):
            model_store.load_json(home / name / "config.json")


@pytest.mark.parametrize("commit", ["../../../evil", "/evil", "..", "", "a" * 5000, "\x00"])
def test_a_commit_of_the_cache_does_not_lead_out_of_it(home: Path, commit: str) -> None:
    repository = home / "huggingface" / "hub" / "models--some--model"
    write(repository / "refs" / "main", commit)
    write(home / "huggingface" / "evil" / "config.json", CONFIG)
    assert refusal("some/model").code == "model-not-found"


def test_a_config_that_is_no_text_is_refused(home: Path) -> None:
    path = write(home / "broken" / "config.json", "{}")
    path.write_bytes(b"\x80\x81")
    assert refusal(str(path)).message == f"{path}: not UTF-8 text at byte 0"


class Hub(BaseHTTPRequestHandler):
    """A hub with one model, one gated model and one whose config is no JSON."""

    requested: list[str]
    FILES = {  # noqa: RUF012 - a constant of a handler that the server makes anew for each request
        "/some/model/resolve/main/config.json": (200, json.dumps(CONFIG)),
        "/some/gated/resolve/main/config.json": (401, ""),
        "/some/broken/resolve/main/config.json": (200, "<html>"),
        "/some/down/resolve/main/config.json": (503, ""),
    }

    def do_GET(self) -> None:
        self.requested.append(self.path)
        status, text = self.FILES.get(self.path, (404, ""))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were asked of a hub on this machine."""
    Hub.requested = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield Hub.requested
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_without_a_model_is_not_looked_for_on_the_hub(hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdvisorError) as caught:
        find_model("some/model", offline=False)
    assert caught.value.notes == ("some/model is a folder without a config.json",)
    assert hub == []


def test_the_hub_is_called_only_when_allowed(hub: list[str]) -> None:
    assert "the hub was not asked" in refusal("some/model").notes
    assert hub == []


def test_a_config_from_the_hub_is_stored(hub: list[str], home: Path) -> None:
    online = find_model("some/model", offline=False)
    assert online.parameters == find_model(str(write(home / "same.json", CONFIG))).parameters
    requested = len(hub)
    assert find_model("some/model") == online
    assert len(hub) == requested
    assert (home / "cache" / "advisor" / "models" / "some--model.json").is_file()


def test_a_shipped_model_needs_no_hub(hub: list[str]) -> None:
    find_model("Qwen/Qwen3-8B", offline=False)
    assert hub == []


@pytest.mark.parametrize(
    ("id", "code"),
    [("some/absent", "model-not-found"), ("some/gated", "model-gated"), ("some/broken", "model-config"), ("some/down", "hub-unreachable")],
)
def test_what_the_hub_refuses_has_codes_of_its_own(hub: list[str], id: str, code: str) -> None:
    error = refusal(id, offline=False)
    assert (error.code, error.exit_code) == (code, ExitCode.MISSING)
    assert hub == [f"/{id}/resolve/main/config.json"]


def test_no_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = refusal("some/model", offline=False)
    assert (error.code, error.exit_code) == ("hub-unreachable", ExitCode.MISSING)
