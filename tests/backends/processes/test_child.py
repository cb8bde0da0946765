"""Children that finish, fail, die, hang or talk nonsense: each gives one result, and nothing is left running."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from advisor.backends.detection.host import HOST_ROOT
from advisor.backends.processes.child import JobResult, run_job
from advisor.backends.processes.events import Event, Failed, Finished, Measured, Started
from advisor.backends.processes.jobs import RungJob
from advisor.profiles.errors import AdvisorError
from advisor.profiles.request import Workload
from advisor.profiles.run import Recipe, RungStatus
from tests.paths import ROOT


def rung_job(folder: Path, text: Path, tmp_path: Path, *, memory_limit_bytes: int | None = None, text_name: str = "text") -> RungJob:
    return RungJob(
        folder=str(folder),
        techniques=(),
        workload=Workload(prompt_tokens=16, output_tokens=4, concurrency=2),
        max_sequences=2,
        recipe=Recipe(requests=4, warmup_requests=2, repeats=2, seed=1, quality_text=text_name, quality_tokens=128),
        text_file=str(text),
        reference_file=str(tmp_path / "reference.safetensors"),
        is_baseline=True,
        threads=1,
        memory_limit_bytes=memory_limit_bytes,
    )


class Script:
    """Runs a few lines of Python in place of the worker, so that a child can misbehave in any way."""

    def __init__(self, tmp_path: Path) -> None:
        self._tmp_path = tmp_path
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = self.events.append

    def run(self, code: str, *, timeout_s: float = 30.0, cancel: threading.Event | None = None) -> JobResult:
        (self._tmp_path / "child.py").write_text("import os, signal, sys, time\nsys.stdin.read()\n" + code)
        worker = (str(self._tmp_path / "child.py"),)
        job = rung_job(self._tmp_path, self._tmp_path, self._tmp_path)
        return run_job(job, self.on_event, log_file=self._tmp_path / "child.log", timeout_s=timeout_s, cancel=cancel, worker=worker)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


MEASURED = Measured.model_validate({"metrics": {"throughput_tok_s": {"value": 5.0, "low": 4.0, "high": 6.0, "basis": "measured"}}})
SAY_MEASURED = f"print({MEASURED.model_dump_json()!r}, flush=True)\n"
SAY_FINISHED = f"print({Finished(seconds=1.0).model_dump_json()!r}, flush=True)\n"


def test_a_child_that_finishes_is_done_with_its_numbers(script: Script) -> None:
    result = script.run(SAY_MEASURED + SAY_FINISHED)
    assert result.status is RungStatus.DONE
    assert result.error is None
    assert result.metrics == MEASURED.metrics


def test_a_killed_child_keeps_what_it_had_measured(script: Script) -> None:
    result = script.run(SAY_MEASURED + "os.kill(os.getpid(), signal.SIGKILL)")
    assert result.status is RungStatus.FAILED
    assert result.error is not None
    assert "SIGKILL" in result.error
    assert result.metrics == MEASURED.metrics
    assert isinstance(script.events[-1], Failed)


@pytest.mark.parametrize("counter", ["proc/vmstat", "sys/fs/cgroup/memory.events"])
def test_a_kill_that_the_kernel_counted_is_out_of_memory(
    script: Script, counter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOST_ROOT, str(tmp_path))
    file = tmp_path / counter
    file.parent.mkdir(parents=True)
    file.write_text("pgfault 5\noom_kill 7\n")
    assert script.run("os.kill(os.getpid(), signal.SIGKILL)").status is RungStatus.FAILED
    kill = f"open({str(file)!r}, 'w').write('oom_kill 8\\n')\nos.kill(os.getpid(), signal.SIGKILL)"
    assert script.run(kill).status is RungStatus.OUT_OF_MEMORY


def test_an_exit_before_the_end_is_a_failure(script: Script, tmp_path: Path) -> None:
    result = script.run("print('last words', file=sys.stderr)\nsys.exit(3)")
    assert (result.status, result.code) == (RungStatus.FAILED, "child-died")
    assert "exit code 3" in str(result.error)
    assert "last words" in (tmp_path / "child.log").read_text()


def test_lines_that_are_no_events_are_logged_and_do_no_harm(script: Script) -> None:
    result = script.run(
        "print('{broken', flush=True)\nprint('\\x00\\xff', flush=True)\nprint('{\"event\": \"bang\"}', flush=True)\n" + SAY_FINISHED
    )
    assert result.status is RungStatus.DONE
    assert [event.event for event in script.events] == ["log", "log", "log", "finished"]


def test_a_child_that_hangs_is_ended_at_its_time_limit(script: Script) -> None:
    result = script.run(SAY_MEASURED + "time.sleep(60)", timeout_s=1.0)
    assert (result.status, result.code) == (RungStatus.FAILED, "timed-out")
    assert result.metrics == MEASURED.metrics


def test_cancelling_ends_a_child_that_refuses_and_its_own_children(script: Script, tmp_path: Path) -> None:
    cancel, pids = threading.Event(), tmp_path / "pids"
    stubborn = f"""
import subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)'])
open({str(pids)!r} + '.tmp', 'w').write(f'{{os.getpid()}} {{child.pid}}')
os.rename({str(pids)!r} + '.tmp', {str(pids)!r})
time.sleep(60)
"""
    waiter = threading.Thread(target=_cancel_once_there, args=(pids, cancel))
    waiter.start()
    result = script.run(stubborn, cancel=cancel)
    waiter.join()
    assert result.status is RungStatus.CANCELLED
    assert not [pid for pid in map(int, pids.read_text().split()) if _is_alive(pid)]


def test_an_error_in_the_listener_leaves_no_child(script: Script) -> None:
    pids: list[int] = []

    def stop_everything(event: Event) -> None:
        assert isinstance(event, Started)
        pids.append(event.pid)
        raise KeyboardInterrupt

    script.on_event = stop_everything
    with pytest.raises(KeyboardInterrupt):
        script.run('print(\'{"event": "started", "threads": 1, "pid": %d}\' % os.getpid(), flush=True)\ntime.sleep(60)')
    assert not _is_alive(pids[0])


def test_a_log_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AdvisorError) as caught:
        run_job(rung_job(tmp_path, tmp_path, tmp_path), lambda _: None, log_file=tmp_path / "file" / "child.log")
    assert caught.value.code == "not-writable"


def test_the_real_worker_says_hello_and_dies_of_a_kill_like_any_other(
    tmp_path: Path, tiny_model_folder: Path, tiny_text_file: Path
) -> None:
    def kill(event: Event) -> None:
        events.append(event)
        if isinstance(event, Started):
            os.kill(event.pid, signal.SIGKILL)

    events: list[Event] = []
    result = run_job(rung_job(tiny_model_folder, tiny_text_file, tmp_path), kill, log_file=tmp_path / "child.log")
    assert result.status is RungStatus.FAILED
    assert "torch" in result.packages
    assert not _is_alive(next(event.pid for event in events if isinstance(event, Started)))


def test_the_real_worker_reports_a_missing_model_in_our_words(tmp_path: Path, tiny_text_file: Path) -> None:
    result = run_job(rung_job(tmp_path / "nowhere", tiny_text_file, tmp_path), lambda _: None, log_file=tmp_path / "child.log")
    assert (result.status, result.code) == (RungStatus.FAILED, "model-not-found"), result


def test_running_out_of_memory_is_a_result(tmp_path: Path, tiny_model_folder: Path, tiny_text_file: Path) -> None:
    job = rung_job(tiny_model_folder, tiny_text_file, tmp_path, memory_limit_bytes=1)
    result = run_job(job, lambda _: None, log_file=tmp_path / "child.log")
    assert result.status is RungStatus.OUT_OF_MEMORY, (result, (tmp_path / "child.log").read_text()[-2000:])


def test_the_child_dies_with_its_parent(tmp_path: Path, tiny_model_folder: Path, tiny_text_file: Path) -> None:
    job = rung_job(tiny_model_folder, tiny_text_file, tmp_path)
    (tmp_path / "job.json").write_text(job.model_dump_json())
    code = f"""
import sys
from pathlib import Path
from advisor.backends.processes.child import run_job
from advisor.backends.processes.jobs import parse_job
job = parse_job(Path({str(tmp_path / "job.json")!r}).read_bytes())
run_job(job, lambda event: print(getattr(event, "pid", 0), flush=True), log_file=Path({str(tmp_path / "child.log")!r}))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    assert child > 0
    assert not _is_alive(child)


def _cancel_once_there(file: Path, cancel: threading.Event) -> None:
    deadline = time.monotonic() + 20
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    cancel.set()


def _is_alive(pid: int) -> bool:
    """Whether the process still runs after a moment; one that only waits to be reaped does not."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state in "ZX":
            return False
        time.sleep(0.05)
    return True
