"""The exclusive lock on the folder of a run: one process at a time, named in the error that every other one gets."""

import errno
import fcntl
import json
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from advisor.profiles.errors import AdvisorError, ErrorAction
from advisor.profiles.files import write_error

LOCK_FILE = ".lock"
_MAX_BYTES = 4096
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What `flock` fails with on a file system that has no locks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that holds a folder."""

    pid: int
    started: str | None
    """When the process started, as the kernel counts it; with the pid it names one process. `None` where the system does not say."""
    host: str
    since: str
    """When it took the folder."""

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs, and the pid was not given to another one. Of another host it is assumed."""
        if self.host != platform.node():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            pass
        return self.started == process_start(self.pid)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, which is created, for this process while the body runs.

    The lock is the kernel's, on the file `LOCK_FILE`, so that it ends with its process; the file's text says who holds it. Where the
    file system has no locks the text alone decides, and that of a process that has ended, or whose pid another one has, is stale.
    Raises `AdvisorError` `run-busy` where another process, or another thread of this one, holds it, and as `write_whole` does.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise write_error(folder, error) from error
    descriptor = _acquired(path)
    try:
        yield
    finally:
        # removed before it is released, so that no process holds a file that is gone
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def owner_of(folder: Path) -> Owner | None:
    """The process that holds a folder; `None` where none does."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _try_lock(descriptor, fcntl.LOCK_SH)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def check_unlocked(folder: Path) -> None:
    """Raise `AdvisorError` `run-busy` where a process holds the folder."""
    if (owner := owner_of(folder)) is not None:
        raise _busy(folder, owner)


def process_start(pid: int) -> str | None:
    """When a process started, in clock ticks since the machine did; `None` where there is no `/proc` or no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[19] if len(fields) > 19 else None  # starttime, the 22nd field of all


def _acquired(path: Path) -> int:
    """The descriptor of the locked file."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            if (owner := _try_lock(descriptor, fcntl.LOCK_EX)) is not None:
                raise _busy(path.parent, owner)
            if _is_same_file(descriptor, path):
                _write_owner(descriptor)
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise write_error(path, error) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it meanwhile


def _try_lock(descriptor: int, kind: int) -> Owner | None:
    """Lock the open file, or say who holds it. Raises `OSError`."""
    here = _this_process()
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written_owner(descriptor) or Owner(pid=0, started=None, host=here.host, since="")
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        owner = _written_owner(descriptor)
        return owner if owner is not None and owner.is_alive else None
    owner = _written_owner(descriptor)
    is_other = owner is not None and owner.host == here.host and (owner.pid, owner.started) != (here.pid, here.started)
    return owner if owner is not None and is_other and owner.is_alive else None


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _this_process() -> Owner:
    pid = os.getpid()
    return Owner(pid=pid, started=process_start(pid), host=platform.node(), since=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _write_owner(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(_this_process())).encode() + b"\n", 0)


def _written_owner(descriptor: int) -> Owner | None:
    """Who the lock's text names; `None` for a text that names none."""
    try:
        record = json.loads(os.pread(descriptor, _MAX_BYTES, 0))
        owner = Owner(pid=int(record["pid"]), started=record["started"], host=str(record["host"]), since=str(record["since"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return owner if owner.pid > 0 else None


def _busy(folder: Path, owner: Owner) -> AdvisorError:
    who = f"process {owner.pid}" if owner.pid else "another process"
    where = f" on {owner.host}" if owner.host != platform.node() else ""
    return AdvisorError(
        "run-busy",
        f"{folder} is in use by {who}{where}" + (f" since {owner.since}" if owner.since else ""),
        notes=("nothing was changed",),
        help=("wait until that run ends, or choose another folder: --out DIR",),
        file=str(folder),
        field="out",
        action=ErrorAction.CHOOSE,
    )
