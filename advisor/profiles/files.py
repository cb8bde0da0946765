"""Every file that is read or written goes through here: bounded reads of regular files, and writes that are whole or not at all."""

import csv
import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from advisor.profiles.errors import AdvisorError, ExitCode

MAX_YAML_BYTES = 4 * 1024**2
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""What a name from a file or a command may be where it becomes part of a path: no separator, and no leading dot or hyphen."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")
"""Links of the system that stand for an open file: written to, never replaced."""


def write_whole(path: Path, text: str) -> Path:
    """Write `text` to `path` atomically, creating its folder, and return the path.

    The text goes to a temporary file in the same folder, is synced and then renamed over `path`, so that a reader sees either
    the old file or the new one. A symbolic link is replaced and its target is left alone. A device, a pipe with a reader, and
    what `/dev/stdout` stands for are written directly.
    Raises `AdvisorError` `disk-full` or `not-writable`; the old file is then untouched.
    """
    if _is_stream(path):
        try:
            _write_stream(path, text.encode("utf-8"))
        except OSError as error:
            raise write_error(path, error) from error
        return path
    with replacing(path) as draft, draft.open("xb") as file:
        file.write(text.encode("utf-8"))
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path of its own in the folder of `path`, which is created; the file written there replaces `path` at the end.

    Nothing is replaced where the body raises. Raises `AdvisorError` as `write_whole` does, also for an `OSError` of the body.
    """
    draft = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError, ValueError):
            draft.unlink(missing_ok=True)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Path:
    """Write a table as CSV atomically and return the path. Raises `AdvisorError` as `write_whole` does."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return write_whole(path, text.getvalue())


def open_log(path: Path) -> BinaryIO:
    """A log file opened to append to, its folder created. Neither the file nor its folder may be a symbolic link.

    Raises `AdvisorError` `not-writable` or `disk-full`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.is_symlink():
            raise OSError(errno.ELOOP, "its folder is a symbolic link")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.fdopen(os.open(path, flags, 0o666), "ab")
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise write_error(path, OSError(errno.EINVAL, "not a regular file"))
    return file


def _is_stream(path: Path) -> bool:
    if str(path).startswith(_STREAMS):
        return True
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _write_stream(path: Path, content: bytes) -> None:
    """Write to a device or pipe; a pipe without a reader is an error instead of a wait."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_TRUNC | os.O_CLOEXEC)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def write_error(path: Path, error: OSError | ValueError) -> AdvisorError:
    """The error `disk-full` or `not-writable` of a file that could not be written."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return AdvisorError(
            "disk-full",
            f"no space left to write {path}",
            notes=("nothing was changed: an older file of that name, if there is one, is whole",),
            help=("free some space or choose another folder",),
            file=str(path),
        )
    remedy = ("choose a folder that you may write to",) if number in _FORBIDDEN else ()
    return AdvisorError("not-writable", f"cannot write {path}: {_reason(error)}", help=remedy, file=str(path))


def read_yaml(source: Path | str, *, what: str, file: Path | None = None) -> object:
    """Parse the YAML file (a `Path`) or text (a `str`) `source`; `what` names it in errors, e.g. "plan", and `file` where a text is from.

    Dates stay strings and only `true` and `false` are booleans. Raises `AdvisorError`: those of `read_text`, or `bad-yaml` with
    the line.
    """
    import yaml  # takes 20 ms to import, and files are written and read without it

    from advisor.profiles.yaml_subset import ForbiddenYamlError, parse_yaml

    text, file = (read_text(source, what=what), source) if isinstance(source, Path) else (source, file)
    if len(text) > MAX_YAML_BYTES:
        raise AdvisorError("too-large", f"{what} is larger than {_size(MAX_YAML_BYTES)}", exit_code=ExitCode.USAGE)
    try:
        return parse_yaml(text)
    except ForbiddenYamlError as error:
        raise _bad_yaml(what, str(error), file, error.line) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise _bad_yaml(what, error.problem or error.context or "cannot be parsed", file, line) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _bad_yaml(what, str(error).splitlines()[0], file, None) from error


def _bad_yaml(what: str, problem: str, file: Path | None, line: int | None) -> AdvisorError:
    name = f" {file}" if file else ""
    at = f", line {line}" if line else ""
    return AdvisorError("bad-yaml", f"{what}{name}{at}: {problem}", exit_code=ExitCode.USAGE, file=str(file) if file else None, line=line)


def read_text(path: Path, *, what: str, limit_bytes: int = MAX_YAML_BYTES) -> str:
    """The text of a UTF-8 file of at most `limit_bytes`, without a byte order mark; `what` names it in errors.

    Raises `AdvisorError`: `file-not-found`, `not-readable`, also for a folder, device or pipe, `too-large`, and `not-utf8` with the line.
    """
    try:
        content = regular_bytes(path, limit_bytes)
    except FileNotFoundError as error:
        raise AdvisorError("file-not-found", f"{what} not found: {path}", exit_code=ExitCode.MISSING, file=str(path)) from error
    except FileTooLargeError as error:
        raise AdvisorError("too-large", f"{what} {path} is {error.strerror}", exit_code=ExitCode.USAGE, file=str(path)) from error
    except OSError as error:
        raise AdvisorError(
            "not-readable", f"cannot read {what} {path}: {_reason(error)}", exit_code=ExitCode.MISSING, file=str(path)
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AdvisorError("not-utf8", f"{what} {path} is not UTF-8", exit_code=ExitCode.USAGE, file=str(path), line=line) from error


def is_file(path: Path) -> bool:
    """Whether a regular file is there; of a path that cannot be looked at, such as one that is too long, `False`."""
    return os.path.isfile(path)  # noqa: PTH113 - that of pathlib raises where a name is too long or a folder may not be searched


def is_folder(path: Path) -> bool:
    """Whether a folder is there; of a path that cannot be looked at, `False`."""
    return os.path.isdir(path)  # noqa: PTH112 - as above


def expanded(path: Path | str) -> Path:
    """A path with `~` and `~user` replaced; unchanged where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - that of pathlib raises where there is no such user


class FileTooLargeError(OSError):
    """A file that is larger than what is read of its kind."""


def regular_bytes(path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file of at most `limit_bytes`. Raises `FileTooLargeError`, and `OSError` as `open_regular` does."""
    with open_regular(path) as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise FileTooLargeError(errno.EFBIG, f"larger than {_size(limit_bytes)}")
    return content


def open_regular(path: Path) -> BinaryIO:
    """A regular file, opened to read bytes. Raises `OSError`, also for a folder, device or pipe, of which nothing is read."""
    try:
        # without O_NONBLOCK, opening a pipe waits for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte
        raise OSError(errno.EINVAL, str(error)) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(
        errno.EINVAL, "it is a folder" if stat.S_ISDIR(mode) else "it is a pipe" if stat.S_ISFIFO(mode) else "it is not a regular file"
    )


def _size(limit_bytes: int) -> str:
    return f"{limit_bytes // 1024**2} MiB" if limit_bytes >= 1024**2 else f"{limit_bytes // 1024} KiB"


def _reason(error: OSError | ValueError) -> str:
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()


def check_file_name(name: str, *, what: str) -> str:
    """Return a name that can be part of a path (`FILE_NAME`). Raises `AdvisorError` `bad-name` otherwise."""
    if re.fullmatch(FILE_NAME[1:-1], name):
        return name
    raise AdvisorError(
        "bad-name",
        f"`{name}` cannot be the {what}: it becomes part of a path",
        exit_code=ExitCode.USAGE,
        notes=("a name is letters, digits, `.`, `_` and `-`, at most 128, and begins with a letter or a digit",),
    )


def check_writable(path: Path) -> None:
    """Raise `AdvisorError` `not-writable` for a folder, a path in no folder, or one without permission to write."""
    if _is_stream(path):
        return
    parent = path.absolute().parent
    if is_folder(path) and not path.is_symlink():
        problem = "is a folder"
    elif not is_folder(parent):
        problem = f"there is no folder {parent}"
    elif not os.access(parent, os.W_OK):
        problem = "permission denied"
    else:
        return
    raise AdvisorError("not-writable", f"cannot write {path}: {problem}", exit_code=ExitCode.USAGE, file=str(path))
