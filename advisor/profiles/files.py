"""Atomic writes, and YAML that is read safely: bounded size and depth, no anchors, no duplicate keys, UTF-8."""

import csv
import errno
import io
import os
import re
import secrets
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import yaml

from advisor.profiles.errors import AdvisorError, ExitCode

MAX_YAML_BYTES = 4 * 1024**2
MAX_DEPTH = 64
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_whole(path: Path, text: str) -> Path:
    """Write `text` to `path` atomically, creating its folder, and return the path.

    The text goes to a temporary file in the same folder, is synced and then renamed over `path`, so that a reader sees either
    the old file or the new one. A path that is not a regular file (a device or pipe) is written directly.
    Raises `AdvisorError` `disk-full` or `not-writable`; the old file is then untouched.
    """
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_text(text, encoding="utf-8")
        else:
            _replace(target, text.encode("utf-8"))
    except OSError as error:
        raise _write_error(path, error) from error
    return path


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Path:
    """Write a table as CSV atomically and return the path. Raises `AdvisorError` as `write_whole` does."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return write_whole(path, text.getvalue())


def _replace(target: Path, content: bytes) -> None:
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _write_error(path: Path, error: OSError) -> AdvisorError:
    reason = (error.strerror or str(error)).lower()
    if error.errno in _FULL:
        return AdvisorError(
            "disk-full",
            f"no space left to write {path}",
            notes=("nothing was changed: an older file of that name, if there is one, is whole",),
            help=("free some space or choose another folder",),
            file=str(path),
        )
    remedy = ("choose a folder that you may write to",) if error.errno in _FORBIDDEN else ()
    return AdvisorError("not-writable", f"cannot write {path}: {reason}", help=remedy, file=str(path))


def read_yaml(source: Path | str, *, what: str) -> object:
    """Parse the YAML file (a `Path`) or text (a `str`) `source`; `what` names it in errors, e.g. "plan".

    Dates stay strings and only `true` and `false` are booleans. Raises `AdvisorError`: `file-not-found`, `not-readable`,
    `too-large`, `not-utf8`, or `bad-yaml` with the line.
    """
    text, file = (read_text(source, what=what), str(source)) if isinstance(source, Path) else (source, None)
    if len(text) > MAX_YAML_BYTES:
        raise AdvisorError("too-large", f"{what} is larger than {MAX_YAML_BYTES // 1024**2} MiB", exit_code=ExitCode.USAGE, file=file)
    try:
        if problem := _forbidden(text):
            raise _bad_yaml(what, problem[0], file, problem[1])
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise _bad_yaml(what, error.problem or error.context or "cannot be parsed", file, line) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _bad_yaml(what, str(error).splitlines()[0], file, None) from error


def read_text(path: Path, *, what: str, limit_bytes: int = MAX_YAML_BYTES) -> str:
    """The text of a UTF-8 file of at most `limit_bytes`. Raises `AdvisorError` as `read_yaml` does."""
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except FileNotFoundError as error:
        raise AdvisorError("file-not-found", f"{what} not found: {path}", exit_code=ExitCode.MISSING, file=str(path)) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AdvisorError("not-readable", f"cannot read {what} {path}: {reason}", exit_code=ExitCode.MISSING, file=str(path)) from error
    if len(content) > limit_bytes:
        raise AdvisorError(
            "too-large", f"{what} {path} is larger than {limit_bytes // 1024**2} MiB", exit_code=ExitCode.USAGE, file=str(path)
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AdvisorError("not-utf8", f"{what} {path} is not UTF-8", exit_code=ExitCode.USAGE, file=str(path), line=line) from error


def _bad_yaml(what: str, problem: str, file: str | None, line: int | None) -> AdvisorError:
    name = f" {file}" if file else ""
    at = f", line {line}" if line else ""
    return AdvisorError("bad-yaml", f"{what}{name}{at}: {problem}", exit_code=ExitCode.USAGE, file=file, line=line)


# libyaml's parser where PyYAML was built with it: about eight times faster.
_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]  # chosen at run time
    """The safe loader without duplicate keys, merge keys, dates and the booleans of YAML 1.1 other than `true` and `false`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key `{key.value}` stands twice", key.start_mark)
            seen.add(key.value)
        mapping: dict[Hashable, object] = super().construct_mapping(node, deep=deep)
        return mapping


_PLAIN = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _PLAIN or (tag.endswith("bool") and first in "tf")]
    for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
}


def _forbidden(text: str) -> tuple[str, int] | None:
    """The first anchor, alias, tag or too deep nesting, with its line.

    libyaml's loader recurses, so depth is checked before loading. Texts without any character that these need are not parsed here.
    """
    if not re.search(rf"[&*!]|^[\s?:-]{{{MAX_DEPTH // 2}}}", text, re.MULTILINE) and len(re.findall(r"[\[{]", text)) < MAX_DEPTH // 2:
        return None
    depth = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if problem := _event_problem(event, depth):
            return problem, (event.start_mark.line if event.start_mark else 0) + 1
    return None


def _event_problem(event: yaml.Event, depth: int) -> str | None:
    if getattr(event, "anchor", None):
        return "anchors and aliases are not allowed"
    if getattr(event, "tag", None):
        return "tags are not allowed"
    return f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else None


def check_writable(path: Path) -> None:
    """Raise `AdvisorError` `not-writable` for a folder, a path in no folder, or one without permission to write."""
    parent = path.resolve().parent
    if path.is_dir():
        problem = "is a folder"
    elif not parent.is_dir():
        problem = f"there is no folder {parent}"
    elif not os.access(path if path.exists() else parent, os.W_OK):
        problem = "permission denied"
    else:
        return
    raise AdvisorError("not-writable", f"cannot write {path}: {problem}", exit_code=ExitCode.USAGE, file=str(path))
