"""One process at a time works in a folder; a lock whose owner has ended, or whose pid has another owner, is stale."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from advisor.backends.processes.folder_lock import LOCK_FILE, check_unlocked, locked_folder, owner_of, process_start
from advisor.profiles.errors import AdvisorError

HOLD = """
import sys, time
from pathlib import Path
from advisor.backends.processes.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""
TAKE_TURNS = """
import sys
from pathlib import Path
from advisor.backends.processes.folder_lock import locked_folder
from advisor.profiles.errors import AdvisorError
folder, taken = Path(sys.argv[1]), 0
while taken < 50:
    try:
        with locked_folder(folder):
            count = int((folder / "count").read_text())
            (folder / "count").write_text(str(count + 1))
            taken += 1
    except AdvisorError as error:
        assert error.code == "run-busy"
"""


@contextmanager
def holding(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def write_owner(folder: Path, **changed: object) -> None:
    """A lock's text that no process holds, as on a file system without locks."""
    record = {"pid": os.getpid(), "started": process_start(os.getpid()), "host": platform.node(), "since": "2026-01-01T00:00:00Z"}
    (folder / LOCK_FILE).write_text(json.dumps(record | changed))


def refusal(folder: Path) -> AdvisorError:
    with pytest.raises(AdvisorError) as caught, locked_folder(folder):
        pass
    return caught.value


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with holding(tmp_path) as other:
        error = refusal(tmp_path)
        assert (error.code, error.field) == ("run-busy", "out")
        assert f"process {other.pid} " in error.message
        with pytest.raises(AdvisorError, match=str(other.pid)):
            check_unlocked(tmp_path)
        assert (owner := owner_of(tmp_path)) is not None
        assert owner.pid == other.pid


def test_a_second_thread_of_the_same_process_is_refused(tmp_path: Path) -> None:
    errors: list[AdvisorError] = []
    with locked_folder(tmp_path):
        thread = threading.Thread(target=lambda: errors.append(refusal(tmp_path)))
        thread.start()
        thread.join()
    assert [error.code for error in errors] == ["run-busy"]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path: Path, ending: signal.Signals) -> None:
    with holding(tmp_path) as other:
        other.send_signal(ending)
        other.wait()
        assert (tmp_path / LOCK_FILE).exists()
        assert owner_of(tmp_path) is None
        with locked_folder(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_a_folder_is_free_again_at_the_end_also_of_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked_folder(tmp_path / "new" / "folder"):
        raise KeyError
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    check_unlocked(tmp_path / "new" / "folder")


def test_a_pid_that_was_given_to_another_process_does_not_hold(tmp_path: Path) -> None:
    write_owner(tmp_path, pid=os.getppid(), started="1")
    with locked_folder(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{}", "[]", "not JSON", '{"pid": -1, "started": "1", "host": "", "since": ""}', "[" * 5000, "\x00"])
def test_a_lock_without_an_owner_does_not_hold(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_FILE).write_text(text)
    with locked_folder(tmp_path):
        pass


def test_a_living_process_that_the_text_names_holds_also_without_locks_of_the_system(tmp_path: Path) -> None:
    write_owner(tmp_path, pid=os.getppid(), started=process_start(os.getppid()))
    assert f"process {os.getppid()} since 2026-01-01T00:00:00Z" in refusal(tmp_path).message


def test_a_lock_that_is_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / LOCK_FILE).symlink_to("victim")
    assert refusal(tmp_path).code == "not-writable"
    assert (tmp_path / "victim").read_text() == "untouched"
    (tmp_path / LOCK_FILE).unlink()
    os.mkfifo(tmp_path / LOCK_FILE)
    assert refusal(tmp_path).code == "not-writable"


def test_processes_that_compete_take_turns(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", TAKE_TURNS, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "150"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]
