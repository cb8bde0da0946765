import ast
import errno
import os
import socket
import stat
from pathlib import Path

import pytest
import yaml

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import MAX_YAML_BYTES, expanded, is_file, is_folder, open_log, read_text, read_yaml, replacing, write_whole
from tests.paths import ROOT


def _error(text: str) -> AdvisorError:
    with pytest.raises(AdvisorError) as caught:
        read_yaml(text, what="plan")
    return caught.value


def test_a_file_is_written_with_its_folder_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "plan.yaml"
    assert write_whole(path, "a: ü\n") == path
    assert path.read_text(encoding="utf-8") == "a: ü\n"
    write_whole(path, "a: 2\n")
    assert [child.name for child in path.parent.iterdir()] == ["plan.yaml"]
    assert path.read_text() == "a: 2\n"


def test_a_new_file_has_the_users_ordinary_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    path = write_whole(tmp_path / "plan.yaml", "a: 1\n")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_link_is_replaced_and_its_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("old")
    for name, target in (("link", "real.yaml"), ("dangling", "nothing"), ("device", "/dev/zero"), ("folder", ".")):
        (tmp_path / name).symlink_to(target)
        write_whole(tmp_path / name, "new")
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "real.yaml").read_text() == "old"
    assert not (tmp_path / "nothing").exists()


def test_a_pipe_without_a_reader_is_an_error_instead_of_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for use in (lambda: write_whole(tmp_path / "pipe", "x"), lambda: open_log(tmp_path / "pipe")):
        with pytest.raises(AdvisorError) as caught:
            use()
        assert caught.value.code == "not-writable"
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", "read")
    assert os.read(reader, 10) == b"read"
    os.close(reader)


def test_what_a_system_stream_stands_for_is_written_to(tmp_path: Path) -> None:
    with (tmp_path / "target").open("wb") as file:
        write_whole(Path(f"/dev/fd/{file.fileno()}"), "x")
    assert (tmp_path / "target").read_text() == "x"


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "folder", "a\0b", "x" * 300, "socket"])
def test_only_a_regular_file_is_read(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)
        listening.bind("socket")
        with pytest.raises(AdvisorError) as caught:
            read_text(Path(path), what="text")
    assert caught.value.code == "not-readable"


def test_a_log_is_appended_to_but_not_through_a_link(tmp_path: Path) -> None:
    for text in (b"a", b"b"):
        with open_log(tmp_path / "logs" / "00.log") as log:
            log.write(text)
    assert (tmp_path / "logs" / "00.log").read_bytes() == b"ab"
    (tmp_path / "logs" / "01.log").symlink_to("00.log")
    (tmp_path / "linked").symlink_to("logs")
    for path in (tmp_path / "logs" / "01.log", tmp_path / "linked" / "02.log"):
        with pytest.raises(AdvisorError) as caught:
            open_log(path)
        assert caught.value.code == "not-writable"


def test_two_writers_of_one_file_have_drafts_of_their_own(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as first, replacing(tmp_path / "x") as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
        assert first.parent == second.parent == tmp_path
    assert (tmp_path / "x").read_text() == "first"
    with pytest.raises(AdvisorError, match="name"), replacing(tmp_path / "x") as draft:
        draft.with_name("y" * 300).write_text("stopped")
    assert [child.name for child in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "first"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_as_such() -> None:
    with pytest.raises(AdvisorError) as caught:
        write_whole(Path("/dev/full"), "x" * 10_000)
    assert caught.value.code == "disk-full"
    assert caught.value.exit_code is ExitCode.FAILED


def test_a_disk_that_fills_while_writing_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_whole(tmp_path / "plan.yaml", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AdvisorError) as caught:
        write_whole(path, "new" * 1000)
    assert caught.value.code == "disk-full"
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_folder_in_the_way_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AdvisorError) as caught:
        write_whole(tmp_path, "x")
    assert caught.value.code == "not-writable"
    (tmp_path / "file").write_text("")
    with pytest.raises(AdvisorError, match="cannot write"):
        write_whole(tmp_path / "file" / "below.yaml", "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_reported_as_such(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AdvisorError) as caught:
        write_whole(tmp_path / "plan.yaml", "x")
    assert caught.value.code == "not-writable"


def test_values_mean_what_they_look_like() -> None:
    text = 'a: 2026-11-22\nb: no\nc: true\nd: 1.5\ne: "1.0"\nf: on\ng: null\nh: 7\n'
    wanted = {"a": "2026-11-22", "b": "no", "c": True, "d": 1.5, "e": "1.0", "f": "on", "g": None, "h": 7}
    assert read_yaml(text, what="plan") == wanted


def test_what_pyyaml_writes_comes_back() -> None:
    record = {
        "a": ["x", 1, 2.5e-17, None, True, "no", "2026-11-22", "1e9", "&b", "*c", "!d", "[", "a: b"],
        "b": {"c": {"d": []}},
        "ü": 1e300,
    }
    assert read_yaml(yaml.safe_dump(record, allow_unicode=True), what="plan") == record


def test_a_duplicate_key_is_named_with_its_line() -> None:
    error = _error("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert (error.code, error.line, error.exit_code) == ("bad-yaml", 4, ExitCode.USAGE)
    assert "`c` stands twice" in error.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x 1\n", "anchors"),
        ("a: [1]\nb: *x\n", "anchors"),
        ("<<: {a: 1}\n", "plain word"),
        ("[1, 2]: 3\n", "plain word"),
        ("a: !!python/object/apply:os.system [x]\n", "tags"),
        ("a: !!timestamp zz\n", "tags"),
        ("a: b: c\n", "mapping values"),
        ("a: 1\n---\nb: 2\n", "document"),
        ("a: \x00\n", "control characters"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, problem: str) -> None:
    assert problem in _error(text).message


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "[ # ]\n" * 50_000,
        "{a: " * 50_000,
        "- " * 50_000,
        "? " * 50_000,
        "\n".join(" " * level + "a:" for level in range(500)),
    ],
)
def test_deep_nesting_is_refused_instead_of_crashing(text: str) -> None:
    assert "nested deeper" in _error(text).message


def test_nesting_within_the_bound_is_read() -> None:
    assert read_yaml("[" * 60 + "]" * 60, what="plan") is not None


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("a: 1\nb: [1, 2\nc: 3\n")
    with pytest.raises(AdvisorError) as caught:
        read_yaml(path, what="plan")
    assert caught.value.file == str(path)
    assert caught.value.line == 3


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(AdvisorError) as caught:
        read_yaml(path, what="plan")
    assert (caught.value.code, caught.value.line) == ("not-utf8", 2)


def test_a_missing_file_a_folder_and_a_huge_file_are_three_errors(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (MAX_YAML_BYTES + 1))
    codes = []
    for path in (tmp_path / "none.yaml", tmp_path, huge):
        with pytest.raises(AdvisorError) as caught:
            read_text(path, what="plan")
        codes.append((caught.value.code, caught.value.exit_code))
    assert codes == [("file-not-found", ExitCode.MISSING), ("not-readable", ExitCode.MISSING), ("too-large", ExitCode.USAGE)]


def test_a_huge_text_is_refused_too() -> None:
    assert _error("#" * (MAX_YAML_BYTES + 1)).code == "too-large"


WRITERS = {"write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "rename"}
DIRECT = {"profiles/files.py", "backends/measure/memory.py", "cli/main.py", "compile_ahead.py"}
"""The writer of all files; one that writes to `/proc`, one that opens `/dev/null`, and a temporary file for another program."""


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    modes = [argument.value for argument in call.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)]
    return name in WRITERS or (name == "open" and any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes))


def test_every_file_of_the_project_is_written_by_one_module() -> None:
    sources = [path for folder in ("advisor", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 300
    direct = {
        str(path.relative_to(ROOT))
        for path in sources
        if any(isinstance(node, ast.Call) and _writes(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert {path for path in direct if not path.endswith(tuple(DIRECT))} == set()


def test_a_path_that_cannot_be_looked_at_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("x" * 300, "a\0b", "loop", "~nobody-of-this-name/x", "missing"):
        path = expanded(tmp_path / name)
        assert not is_file(path)
        assert not is_folder(path)
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert is_folder(expanded("~"))
