import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advisor.backends.processes.events import Failed
from advisor.cli.progress import ProgressLines
from advisor.planfile.store import read_plan
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.metrics import Basis, Value
from advisor.profiles.run import Run as RunFile
from advisor.profiles.run import Rung, RungStatus
from advisor.running.apply import environment_of, prefix_with_rung
from advisor.running.preflight import check_disk, prepare_run

CANNED_RUN = Path(__file__).parents[1] / "canned" / "run.json"
ZOO = Path(__file__).parents[2] / "advisor" / "backends" / "zoo"
Run = Callable[..., Any]


@pytest.fixture
def planned(advisor: Run, tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A plan of the tiny model for this machine."""
    plan = tmp_path / "plan.yaml"
    lengths = ("--context", "96", "--prompt-tokens", "32", "--output-tokens", "8", "--concurrency", "2")
    stack = (
        "--require",
        "attention-flash",
        "--forbid",
        "decode-prompt-lookup",
        "--forbid",
        "weights-int8",
        "--forbid",
        "batching-continuous",
    )
    assert advisor("plan", tiny_model_folder, "--profile=none", *lengths, *stack, "-o", plan).code == ExitCode.OK
    return plan


def canned_run(folder: Path, **last_rung: Any) -> Path:
    """A folder with the canned run, whose last rung is changed."""
    run = RunFile.model_validate_json(CANNED_RUN.read_text(encoding="utf-8"))
    run = run.model_copy(update={"rungs": (*run.rungs[:-1], run.rungs[-1].model_copy(update=last_rung))})
    folder.mkdir()
    (folder / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    return folder


def damaged(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "damaged"))


def test_truncated_weights_are_an_error_before_anything_runs(advisor: Run, planned: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = damaged(tiny_model_folder, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20_000])
    ended = advisor("apply", planned, "--model", folder, "--out", tmp_path / "out", "--error-format", "json")
    assert (ended.error["code"], ended.code, ended.out) == ("weights-truncated", ExitCode.MISSING, "")
    assert str(weights) in ended.error["message"]
    assert not (tmp_path / "out").exists()


def test_another_model_is_refused(advisor: Run, planned: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = damaged(tiny_model_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    ended = advisor("apply", planned, "--model", folder, "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("plan-stale", ExitCode.STALE)


def test_a_model_folder_that_does_not_exist_is_an_error(advisor: Run, planned: Path, tmp_path: Path) -> None:
    ended = advisor("apply", planned, "--model", tmp_path / "gone", "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("model-not-found", ExitCode.MISSING)


def test_too_little_disk_space_is_an_error_with_the_space_that_is_needed(tmp_path: Path) -> None:
    with pytest.raises(AdvisorError, match=r"MiB free, a run needs about 1099511627776$") as caught:
        check_disk(tmp_path / "out", needed_bytes=2**60)
    assert (caught.value.code, caught.value.exit_code) == ("disk-full", ExitCode.FAILED)
    assert "--out" in caught.value.help[0]


def test_a_folder_that_cannot_be_created_is_an_error(advisor: Run, planned: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    ended = advisor("apply", planned, "--out", tmp_path / "file" / "out", "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("not-writable", ExitCode.FAILED)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_edited_plan_runs_when_the_edit_is_accepted(advisor: Run, planned: Path, tmp_path: Path) -> None:
    planned.write_text(planned.read_text(encoding="utf-8").replace("concurrency: 2", "concurrency: 3"), encoding="utf-8")
    assert read_plan(planned).edited
    words = ("apply", planned, "--out", canned_run(tmp_path / "out"), "--error-format", "json")
    assert advisor(*words).error["code"] == "plan-edited"
    assert advisor(*words, "--accept-edits").error["code"] == "run-exists", "the folder is looked at just before the first rung is measured"


def test_a_finished_run_is_shown_again_and_nothing_is_measured(advisor: Run, planned: Path, tmp_path: Path) -> None:
    plan, out = read_plan(planned), tmp_path / "out"
    ready = prepare_run(plan)
    scores = {"kl_divergence": Value(value=0.001, low=0.001, high=0.001, basis=Basis.MEASURED)}
    rungs = tuple(
        Rung(
            name=rung.name,
            techniques=tuple(technique.name for added in ready.rungs[: index + 1] for technique in added.techniques),
            status=RungStatus.DONE,
            predicted=rung.predicted,
            measured=rung.predicted.model_copy(update=scores),
        )
        for index, rung in enumerate(ready.rungs)
    )
    run = RunFile(
        id="run-1",
        plan_id=plan.id,
        title=plan.title,
        model=plan.model.name,
        request=ready.request,
        recipe=ready.recipe,
        environment=environment_of(ready.detected, plan.machine.profile),
        rungs=rungs,
        created="2026-11-22T00:00:00Z",
    )
    out.mkdir()
    (out / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    ended = advisor("apply", planned, "--out", out)
    assert ended.code == ExitCode.OK, ended.err
    assert f"run:    {out / 'run.json'}" in ended.err
    assert f"{len(rungs)} of {len(rungs)} rungs were finished by an earlier run" in ended.err
    assert "Run run-1" in ended.out
    assert (out / "report.html").is_file()


@pytest.mark.parametrize(
    ("status", "problem"),
    [(RungStatus.OUT_OF_MEMORY, "ran out of memory at 512 MiB"), (RungStatus.FAILED, "the process was killed by SIGKILL")],
)
def test_a_failed_rung_is_a_single_error_and_the_others_are_shown(advisor: Run, tmp_path: Path, status: RungStatus, problem: str) -> None:
    ended = advisor("compare", canned_run(tmp_path / "out", status=status, error=problem, measured=None))
    assert ended.code == ExitCode.DIED
    assert "baseline" in ended.out
    assert ended.err.count("error[") == 1
    assert "error[rung-failed]: 1 of " in ended.err
    assert problem in ended.err


def test_a_missed_limit_is_exit_code_5_with_both_numbers(advisor: Run, tmp_path: Path) -> None:
    ended = advisor("compare", canned_run(tmp_path / "out"))
    assert ended.code == ExitCode.LIMIT_MISSED
    assert "note: tpot_ms_p95: measured 18.8 ms, limit 18" in ended.err


def test_a_stopped_run_prints_its_folder_and_then_a_single_error(planned: Path, tmp_path: Path) -> None:
    words = (sys.executable, "-m", "advisor", "apply", planned, "--out", tmp_path / "out")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert f"writing to {tmp_path / 'out'};" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (ExitCode.INTERRUPTED, "")
    assert [line for line in err.splitlines() if line.startswith("error[")] == ["error[interrupted]: stopped by Ctrl-C"]
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_whole_loop_on_a_tiny_model(advisor: Run, planned: Path, tmp_path: Path) -> None:
    ended = advisor("apply", planned, "--out", tmp_path / "out")
    assert ended.code in (ExitCode.OK, ExitCode.LIMIT_MISSED), ended.err
    run = RunFile.model_validate_json((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert run.plan_id == read_plan(planned).id
    assert [rung.status for rung in run.rungs] == [RungStatus.DONE] * len(run.rungs)
    assert [rung.name for rung in run.rungs][:2] == ["baseline", "attention-flash"]
    assert "<html" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")[:500].lower()
    assert advisor("compare", tmp_path / "out", "--json").data["format"] == "1.0"


def with_wrong_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"]["zzzz"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def with_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes()[:1000])


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (with_wrong_tokenizer, "tokenizer-mismatch"),
        (with_broken_tokenizer, "tokenizer-broken"),
        (without_tokenizer, "tokenizer-not-found"),
    ],
)
def test_an_unusable_tokenizer_is_an_error_before_anything_runs(
    advisor: Run, planned: Path, tiny_model_folder: Path, tmp_path: Path, damage: Callable[[Path], None], code: str
) -> None:
    folder = damaged(tiny_model_folder, tmp_path)
    damage(folder)
    ended = advisor("apply", planned, "--model", folder, "--out", tmp_path / "out", "--error-format", "json")
    assert (ended.error["code"], ended.code, ended.out) == (code, ExitCode.MISSING, "")
    assert str(folder) in ended.error["message"]
    assert not (tmp_path / "out").exists()


@pytest.fixture
def drafted(advisor: Run, tmp_path: Path) -> Path:
    """A plan of the shipped model that speculates with its draft."""
    plan = tmp_path / "drafted.yaml"
    lengths = ("--context", "64", "--prompt-tokens", "32", "--output-tokens", "8", "--concurrency", "1")
    others = ("weights-int8", "weights-int4", "attention-flash", "kv-paged", "kv-int8")
    stack = ("--require", "decode-draft", *(word for name in others for word in ("--forbid", name)))
    assert advisor("plan", "demo", "--profile=none", *lengths, *stack, "-o", plan).code == ExitCode.OK
    return plan


@pytest.mark.parametrize("given", [False, True], ids=["the plan's own folder", "a copy elsewhere"])
def test_the_draft_model_of_the_plan_is_found_in_whichever_folder_the_model_is(drafted: Path, tmp_path: Path, given: bool) -> None:
    folder = Path(shutil.copytree(ZOO / "target", tmp_path / "elsewhere")) if given else None
    prepared = prepare_run(read_plan(drafted), model_folder=folder)
    assert (prepared.model.id, prepared.model_folder, prepared.draft_folder) == ("demo", folder or ZOO / "target", ZOO / "draft")


def test_a_rung_that_fails_is_named_in_the_line_about_it() -> None:
    stream = io.StringIO()
    prefix_with_rung(ProgressLines(stream=stream))("kv-int8", Failed(code="child-died", message="the child process was killed by SIGKILL"))
    assert stream.getvalue() == "failed: kv-int8: the child process was killed by SIGKILL\n"


def test_a_draft_of_another_vocabulary_is_an_error_before_anything_runs(advisor: Run, drafted: Path, tiny_model_folder: Path) -> None:
    text = drafted.read_text(encoding="utf-8")
    assert "draft_folder" not in text, "a shipped draft is found by its name"
    method = "    method: draft\n"
    drafted.write_text(text.replace(method, f"{method}    draft_folder: {tiny_model_folder}\n"), encoding="utf-8")
    ended = advisor("apply", drafted, "--accept-edits", "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("tokenizer-mismatch", ExitCode.MISSING)
