"""Weights on disk: sound files are summed, every unsound one is refused before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.weight_files import INDEX, weights_on_disk


def tensors(**shapes: tuple[str, list[int], int]) -> tuple[dict[str, Any], int]:
    """A header of tensors given as dtype, shape and bytes, and the bytes of all."""
    header, end = {}, 0
    for name, (dtype, shape, size) in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return header, end


def save(path: Path, header: object, data_bytes: int) -> Path:
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data_bytes))
    return path


SOUND = tensors(a=("BF16", [4, 8], 64), b=("F32", [3], 12), scalar=("F32", [], 4), packed=("F4", [16], 8))


def refusal(folder: Path) -> AdvisorError:
    with pytest.raises(AdvisorError) as caught:
        weights_on_disk(folder)
    assert caught.value.exit_code == ExitCode.MISSING
    return caught.value


def test_elements_and_bytes_are_summed_by_dtype(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", {"__metadata__": {"format": "pt"}, **SOUND[0]}, SOUND[1])
    weights = weights_on_disk(tmp_path)
    assert dict(weights.elements_by_dtype) == {"BF16": 32, "F32": 4, "F4": 16}
    assert dict(weights.bytes_by_dtype) == {"BF16": 64, "F32": 16, "F4": 8}
    assert (weights.parameters, weights.total_bytes, weights.tensors) == (52, 88, 4)


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    written = pytest.importorskip("safetensors.numpy")
    written.save_file({"w": numpy.ones((5, 7), numpy.float16), "b": numpy.ones(3, numpy.float32)}, tmp_path / "model.safetensors")
    assert dict(weights_on_disk(tmp_path).elements_by_dtype) == {"F16": 35, "F32": 3}


def test_shards_follow_the_index_and_nothing_else(tmp_path: Path) -> None:
    for name, tensor in (("one", "a"), ("two", "b"), ("consolidated", "c")):
        save(tmp_path / f"{name}.safetensors", *tensors(**{tensor: ("F16", [10], 20)}))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    weights = weights_on_disk(str(tmp_path))
    assert (weights.parameters, weights.files) == (20, ("one.safetensors", "two.safetensors"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=1, max_value=10_000))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    path = save(tmp_path / "model.safetensors", *SOUND)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - cut, 0)])
    assert refusal(tmp_path).code == "weights-truncated"


def test_a_cut_file_says_how_much_is_lost(tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", SOUND[0], SOUND[1] - 5)
    assert refusal(tmp_path).message == f"{path} lacks its last 5 of 88 bytes of weights"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_a_file_of_noise_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert refusal(tmp_path).code == "weights-truncated"


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        ({"dtype": "F16", "shape": [4], "data_offsets": [0, 4]}, "gives `a` 4 bytes, but its shape needs 8"),
        ({"dtype": "X9", "shape": [4], "data_offsets": [0, 8]}, "describes `a` wrongly"),
        ({"dtype": "F16", "shape": [-4], "data_offsets": [0, 8]}, "negative or reversed"),
        ({"dtype": "F16", "shape": [4], "data_offsets": [8, 0]}, "negative or reversed"),
        ({"dtype": "F16", "shape": [4]}, "describes `a` wrongly"),
        ({"dtype": "F16", "shape": [3], "data_offsets": [0, 6]}, "holds 8 bytes of weights, its header describes 6"),
        (7, "describes `a` wrongly"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, tensor: object, problem: str) -> None:
    save(tmp_path / "model.safetensors", {"a": tensor}, 8)
    assert problem in refusal(tmp_path).message


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    save(tmp_path / "one.safetensors", *tensors(a=("F16", [10], 20)))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    error = refusal(tmp_path)
    assert (error.code, error.message) == ("weights-missing", f"{tmp_path / 'two.safetensors'} is missing")


def test_a_tensor_that_its_shard_lacks_is_named(tmp_path: Path) -> None:
    save(tmp_path / "one.safetensors", *tensors(a=("F16", [10], 20)))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}))
    assert "names 1 tensors that its files lack, such as `b`" in refusal(tmp_path).message


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../secret.safetensors"}}', "oops"])
def test_a_bad_index_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    assert refusal(tmp_path).code == "weights-truncated"


def test_pickles_are_refused_and_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    assert refusal(tmp_path).code == "weights-pickled"


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "weights-missing"
    assert refusal(tmp_path / "absent").code == "weights-missing"
