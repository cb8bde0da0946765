from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from advisor.cli.plan import command as plan_command
from advisor.cli.profile_choice import read_model_and_profile
from advisor.cli.values import QuantityType, question_field
from advisor.planfile.store import read_plan
from advisor.planning.question import PlanQuestion
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.hardware import load_hardware
from advisor.profiles.machine import MachineProfile, RuntimeOverheads
from advisor.profiles.store import save_profile
from advisor.quantities.limits import LIMITS
from tests.cli.questions import typed_question

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
HERE = ("--profile=none", "--hardware", "h100-sxm")
Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("typed", "model", "profile"),
    [
        (("Q/q",), "Q/q", "auto"),
        (("--profile", "--ttft-ms", "200", "Q/q"), "Q/q", "now"),
        (("Q/q", "-P"), "Q/q", "now"),
        (("Q/q", "--profile"), "Q/q", "now"),
        (("--profile", "Q/q"), "Q/q", "now"),
        (("-P", "Q/q"), "Q/q", "now"),
        (("--profile", "./models/mine"), "./models/mine", "now"),
        (("--profile", "Qwen3-32B"), "Qwen3-32B", "now"),
        (("--profile=h200-lab", "Q/q"), "Q/q", "h200-lab"),
        (("-P", "h200-lab", "Q/q"), "Q/q", "h200-lab"),
        (("-Ph200-lab", "Q/q"), "Q/q", "h200-lab"),
        (("--profile=none", "Q/q"), "Q/q", "none"),
        (("--profile=./h200.yaml", "Q/q"), "Q/q", "./h200.yaml"),
        (("-m", "Q/q", "-P"), "Q/q", "now"),
        (("--profile=h200-lab", "-m", "Q/q"), "Q/q", "h200-lab"),
    ],
    ids=" ".join,
)
def test_profile_takes_a_word_only_where_it_can_be_a_name(typed: tuple[str, ...], model: str, profile: str) -> None:
    question = typed_question(*typed)
    assert (question.model, question.profile) == (model, profile)


def test_the_environment_names_a_profile_and_a_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_PLAN_PROFILE", "h200-lab")
    assert typed_question("Q/q").profile == "h200-lab"
    assert typed_question("Q/q", "--profile=none").profile == "none"


def test_a_1_in_the_environment_is_a_profile_name(advisor: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_PLAN_PROFILE", "1")
    ended = advisor("plan", LLAMA, "--error-format", "json")
    assert (ended.code, ended.error["code"]) == (ExitCode.MISSING, "profile-not-found")


def test_a_word_that_could_be_both_is_an_error_with_both_spellings(advisor: Run) -> None:
    ended = advisor("plan", "--profile", "gpt2")
    assert ended.code == ExitCode.USAGE
    assert "error[profile-ambiguous]" in ended.err
    assert "advisor plan gpt2 --profile" in ended.err
    assert "advisor plan MODEL --profile=gpt2" in ended.err


def test_a_stored_name_alone_is_a_profile_and_the_model_is_missing(advisor: Run, own_folders: Path) -> None:
    stored = own_folders / "data" / "advisor" / "profiles" / "lab.yaml"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")
    assert advisor("plan", "--profile", "lab", "--error-format", "json").error["code"] == "model-missing"


def test_a_folder_is_a_model_and_a_file_is_a_profile(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "lab").write_text("")
    assert read_model_and_profile(None, str(tmp_path / "mine")).model == str(tmp_path / "mine")
    assert read_model_and_profile("m", str(tmp_path / "lab")).profile_file == tmp_path / "lab"


@pytest.mark.parametrize("word", ["Has-Capitals", "a/b", "a_b"])
def test_a_profile_that_is_neither_name_nor_file_is_refused(word: str) -> None:
    with pytest.raises(AdvisorError) as caught:
        read_model_and_profile("m", word)
    assert (caught.value.code, caught.value.exit_code) == ("bad-profile-name", ExitCode.USAGE)


@pytest.mark.parametrize(
    ("flag", "text", "field", "number"),
    [
        ("--ttft-ms", "0.5s", "ttft_ms_p95", 500),
        ("--ttft-ms", "500ms", "ttft_ms_p95", 500),
        ("--tpot-ms", "12.5", "tpot_ms_p95", 12.5),
        ("--memory-gib", "24GB", "memory_gib_per_device", 24e9 / 2**30),
        ("--memory-gib", "24GiB", "memory_gib_per_device", 24),
        ("--memory-gib", "512 MiB", "memory_gib_per_device", 0.5),
        ("--context", "8k", "context_tokens", 8192),
        ("--context", "128K", "context_tokens", 131072),
        ("--quality-loss", "1%", "quality_loss_pct", 1),
        ("--quality-drop", "0.5", "quality_loss_pct", 0.5),
        ("--quality-loss", "0", "quality_loss_pct", 0),
        ("--throughput", "1.5k", "throughput_tok_s", 1500),
        ("--request-rate", "120/min", "request_rate_per_s", 2),
        ("--devices", "8", "devices", 8),
    ],
)
def test_values_are_taken_with_their_units(flag: str, text: str, field: str, number: float) -> None:
    question = typed_question("Q/q", flag, text)
    assert (question.all_limits.bound(field) if field in LIMITS else getattr(question, field)) == pytest.approx(number)


FLAGS = (
    "--ttft-ms",
    "--tpot-ms",
    "--throughput",
    "--memory-gib",
    "--context",
    "--output-tokens",
    "--concurrency",
    "--request-rate",
    "--devices",
)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("text", ["-5", "0", "abc", "nan", "inf", "1e999", "5 parsecs", ""])
def test_limits_that_limit_nothing_are_refused_with_what_to_type(advisor: Run, flag: str, text: str) -> None:
    error = advisor("plan", LLAMA, f"{flag}={text}", "--error-format=json").error
    assert (error["code"], error["exit_code"]) == ("bad-value", ExitCode.USAGE)
    assert error["message"].startswith(f"{flag} must be ")
    assert any(line.startswith(f"write {flag} ") for line in error["help"])


@pytest.mark.parametrize("name", [param.name for param in plan_command.params if isinstance(param.type, QuantityType)])
def test_an_error_about_a_quantity_names_the_field_of_the_question(advisor: Run, name: str) -> None:
    error = advisor("plan", LLAMA, f"--{name.replace('_', '-')}=abc", "--error-format=json").error
    assert error["field"] in {*PlanQuestion.__dataclass_fields__, *LIMITS}
    assert (error["field"], error["action"]) == (question_field(name), ErrorAction.CORRECT)


@pytest.mark.parametrize(
    ("words", "field", "action", "value"),
    [
        ((), "model", "give", None),
        (("no-such/model",), "model", "choose", None),
        ((LLAMA, "-m", LLAMA), "model", "drop", None),
        ((LLAMA, "--hardware", "h1000"), "hardware", "choose", None),
        ((LLAMA, "--hardware", "h100-sxm", "--profile"), "profile", "drop", None),
        ((LLAMA, "--profile=never-taken"), "profile", "choose", None),
        ((LLAMA, "--profile=No_Name"), "profile", "correct", None),
        ((LLAMA, *HERE, "--require", "weights-int5"), "require", "choose", None),
        ((LLAMA, *HERE, "--forbid", "weights-int5"), "forbid", "choose", None),
        ((LLAMA, "--require", "kv-int8", "--forbid", "kv-int8"), "require", "drop", None),
        ((LLAMA, *HERE, "--require", "kv-window:length=128"), "require", "correct", None),
        ((LLAMA, *HERE, "--require", "kv-window:"), "require", "correct", None),
        ((LLAMA, *HERE, "--require", "weights-int8", "--require", "weights-int4"), "require", "drop", None),
        ((LLAMA, *HERE, "--context", "1m"), "context_tokens", "lower", 131072),
        ((LLAMA, *HERE, "--prompt-tokens", "5000"), "context_tokens", "raise", 5256),
        ((LLAMA, *HERE, "--shared-prefix", "100000"), "shared_prefix_tokens", "lower", 1024),
        ((LLAMA, "--context", "1k", "--output-tokens", "1k"), "output_tokens", "lower", None),
        ((LLAMA, "--concurrency", "2", "--request-rate", "2"), "concurrency", "keep-one", None),
        ((LLAMA, "--request-rate", "2", "--burst", "2"), "request_rate_per_s", "keep-one", None),
        ((LLAMA, "--load-trace", "t.csv", "--output-tokens", "2"), "output_tokens", "drop", None),
        ((LLAMA, *HERE, "--load-trace", "/no/trace.csv"), "trace", "correct", None),
        ((LLAMA, "--prefer", "speed"), "prefer", "correct", None),
        ((LLAMA, *HERE, "--choose", "no-such-id"), "choose", "choose", None),
    ],
    ids=str,
)
def test_an_error_says_which_field_of_the_question_is_at_fault_and_what_to_do(
    advisor: Run, words: tuple[str, ...], field: str, action: str, value: float | None
) -> None:
    error = advisor("plan", *words, "--offline", "--error-format", "json").error
    assert (error["field"], error["action"], error["value"]) == (field, action, value)


def test_a_negative_value_may_stand_apart_from_its_flag(advisor: Run) -> None:
    assert "error[bad-value]: --ttft-ms must be greater than 0" in advisor("plan", LLAMA, "--ttft-ms", "-5").err


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        ((), "model-missing", ExitCode.USAGE),
        (("no-such/model",), "model-not-found", ExitCode.MISSING),
        (("/no/such/folder",), "model-not-found", ExitCode.MISSING),
        ((LLAMA, "--hardware", "h1000"), "hardware-not-found", ExitCode.MISSING),
        ((LLAMA, "--profile=never-taken"), "profile-not-found", ExitCode.MISSING),
        ((LLAMA, "--profile=./none.yaml"), "file-not-found", ExitCode.MISSING),
        ((LLAMA, *HERE, "--require", "weights-int5"), "unknown-technique", ExitCode.USAGE),
        ((LLAMA, *HERE, "--forbid", "weights-int5"), "unknown-technique", ExitCode.USAGE),
        ((LLAMA, "--require", "kv-int8", "--forbid", "kv-int8"), "usage", ExitCode.USAGE),
        ((LLAMA, "--require", "kv-window:window=128", "--forbid", "kv-window"), "usage", ExitCode.USAGE),
        ((LLAMA, *HERE, "--require", "kv-window:length=128"), "technique-option", ExitCode.USAGE),
        ((LLAMA, *HERE, "--require", "weights-int8", "--require", "weights-int4"), "usage", ExitCode.USAGE),
        ((LLAMA, *HERE, "--concurrency", "1000000000"), "bad-value", ExitCode.USAGE),
        ((LLAMA, "--concurrency", "2", "--request-rate", "2"), "usage", ExitCode.USAGE),
        ((LLAMA, "--context", "1k", "--output-tokens", "1k"), "usage", ExitCode.USAGE),
        ((LLAMA, *HERE, "--context", "1m"), "context-too-long", ExitCode.USAGE),
        ((LLAMA, "-m", LLAMA), "usage", ExitCode.USAGE),
        ((LLAMA, "--hardware", "h100-sxm", "--profile"), "profile-elsewhere", ExitCode.MISSING),
    ],
    ids=str,
)
def test_bad_questions_have_their_codes(advisor: Run, words: tuple[str, ...], code: str, exit_code: ExitCode) -> None:
    ended = advisor("plan", *words, "--offline", "--error-format", "json")
    assert (ended.error["code"], ended.code, ended.out) == (code, exit_code, "")


def test_a_profile_of_other_hardware_is_refused(advisor: Run) -> None:
    runtime = RuntimeOverheads(step_s=0, layer_s=0, sequence_s=0, element_s=0)
    profile = MachineProfile(
        name="lab", hardware=load_hardware("t4"), fingerprint="gpu:t4", taken="2026-11-20T08:30:00Z", threads=2, shared=False,
        copy_bytes_per_s=1e10, read_bytes_per_s=1e10, launch_s=0, gemm=(), attention=(), runtime=runtime, residual_pct=0, environment={},
    )  # fmt: skip
    save_profile(profile)
    ended = advisor("plan", LLAMA, "--hardware", "h100-sxm", "--profile=lab", "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("profile-elsewhere", ExitCode.MISSING)
    assert "t4" in ended.error["message"]


def test_a_broken_profile_file_is_named_with_its_line(advisor: Run, tmp_path: Path) -> None:
    broken = tmp_path / "lab.yaml"
    broken.write_text("kind: MachineProfile\nname: [\n")
    error = advisor("plan", LLAMA, f"--profile={broken}", "--error-format", "json").error
    assert (error["code"], error["exit_code"], error["line"]) == ("bad-yaml", ExitCode.USAGE, 3)


def test_a_plan_is_shown_and_saved_and_says_the_same(advisor: Run, tmp_path: Path) -> None:
    file = tmp_path / "new" / "plan.yaml"
    ended = advisor("plan", LLAMA, *HERE, "--tpot-ms", "30", "-o", file)
    assert ended.code == ExitCode.OK
    assert ended.err.splitlines()[-1] == f"saved {file}"
    plan = read_plan(file)
    assert plan.id in ended.out
    assert plan.limits.bound("tpot_ms_p95") == 30
    assert not plan.edited
    assert not list(plan.unknown_keys())
    as_json = advisor("plan", LLAMA, *HERE, "--tpot-ms", "30", "--json").data
    as_yaml = yaml.safe_load(advisor("plan", LLAMA, *HERE, "--tpot-ms", "30", "-f", "yaml").out)
    saved = yaml.safe_load(file.read_text(encoding="utf-8"))
    for record in (as_json, as_yaml, saved):
        record["provenance"].pop("created")
    assert as_json == as_yaml == saved


def test_the_same_plan_again_leaves_the_file_alone(advisor: Run, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    advisor("plan", LLAMA, *HERE, "-o", file)
    before = file.stat()
    ended = advisor("plan", LLAMA, *HERE, "-o", file)
    assert "already has this content" in ended.err
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file.stat().st_ino == before.st_ino


def test_when_nothing_fits_the_nearest_plan_is_shown_and_saved(advisor: Run, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    question = ("plan", LLAMA, "--hardware", "rtx-4090", "--tpot-ms", "10", "--context", "32768", "--concurrency", "16")
    ended = advisor(*question, "-o", file, "--error-format", "json")
    assert ended.code == ExitCode.NO_PLAN
    assert "Nearest plan" in ended.out
    plan = read_plan(file)
    assert plan.verdict.status == "misses"
    assert plan.verdict.relax
    error = ended.error
    assert error["code"] == "no-plan"
    assert (error["field"], error["action"]) in (("tpot_ms_p95", "raise"), ("tpot_ms_p95", "drop"), ("memory_gib_per_device", "drop"))
    assert any("the binding limit is " in note for note in error["notes"])
    flags = {"ttft_ms_p95": "--ttft-ms", "tpot_ms_p95": "--tpot-ms", "context_tokens": "--context", "concurrency": "--concurrency"}
    for relax in plan.verdict.relax:
        if relax.limit in flags:
            assert any(f"{flags[relax.limit]} {relax.needed:.10g} " in line for line in error["help"]), (relax, error["help"])


@pytest.mark.slow
def test_the_change_that_an_error_proposes_leads_to_a_plan(advisor: Run, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    question = ("plan", LLAMA, "--hardware", "rtx-4090", "--tpot-ms", "20", "--context", "32768", "--kv-pool", "longest")
    assert advisor(*question, "--concurrency", "32", "-o", file).code == ExitCode.NO_PLAN
    (fewer,) = [relax.needed for relax in read_plan(file).verdict.relax if relax.limit == "concurrency"]
    assert advisor(*question, "--concurrency", f"{fewer:.0f}").code == ExitCode.OK


def test_an_answer_whose_file_cannot_be_written_is_printed(advisor: Run, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    ended = advisor("plan", LLAMA, *HERE, "-o", blocked / "plan.yaml")
    assert ended.code == ExitCode.FAILED
    assert "Chosen plan" in ended.out, "the answer is not lost"
    assert "error[" in ended.err
    assert blocked.read_text() == "mine"


def test_quiet_says_nothing_but_the_answer(advisor: Run, tmp_path: Path) -> None:
    ended = advisor("plan", LLAMA, *HERE, "-q", "-o", tmp_path / "plan.yaml")
    assert ended.err == ""
    assert "Chosen plan" in ended.out


def test_without_a_profile_of_this_machine_a_note_says_so(advisor: Run) -> None:
    ended = advisor("plan", LLAMA)
    assert "no fresh profile" in ended.err
    assert "no fresh profile" not in ended.out


def test_a_plan_says_where_its_setting_was_never_compared(advisor: Run, tmp_path: Path) -> None:
    words = ("plan", LLAMA, *HERE, "--require", "weights-int8", "-q", "-o", tmp_path / "plan.yaml")
    ended = advisor(*words)
    sentence = "Never compared with measurements: engine advisor; whether the ranges hold there is untested."
    assert sentence in " ".join(ended.out.split())
    assert "engine advisor" in (read_plan(tmp_path / "plan.yaml").verdict.outside or ""), "the file keeps it"


def test_the_file_of_a_dash_is_stdout(advisor: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = advisor("plan", LLAMA, *HERE, "-o", "-")
    assert yaml.safe_load(ended.out)["kind"] == "Plan"
    assert advisor("plan", LLAMA, *HERE, "-o", "-", "--json").data["kind"] == "Plan"
    assert list(tmp_path.iterdir()) == []


def test_a_plan_of_a_shipped_model_does_not_contain_the_installation_folder(advisor: Run) -> None:
    model = yaml.safe_load(advisor("plan", "demo", *HERE, "--require", "decode-draft", "-o", "-").out)["model"]
    assert (model["source"], model["name"], "path" in model) == ("shipped", "demo", False)


def test_text_is_the_same_answer_in_sentences(advisor: Run) -> None:
    words = ("plan", LLAMA, *HERE, "--tpot-ms", "30", "--concurrency", "4")
    spoken = advisor(*words, "--text", "--color", "always")
    assert spoken.code == advisor(*words).code == ExitCode.OK
    assert "\x1b" not in spoken.out
    assert all(line.endswith(".") for line in spoken.out.splitlines())
    assert any(line.startswith("TPOT p95: ") and "limit at most 30 ms, ok, met with" in line for line in spoken.out.splitlines())


def test_text_excludes_other_formats(advisor: Run) -> None:
    ended = advisor("plan", LLAMA, *HERE, "--text", "--json", "--error-format", "json")
    assert (ended.error["code"], ended.code, ended.out) == ("usage", ExitCode.USAGE, "")


def test_a_mistyped_technique_is_corrected(advisor: Run) -> None:
    ended = advisor("plan", LLAMA, *HERE, "--forbid", "weights-int5", "--error-format", "json")
    assert ended.error["code"] == "unknown-technique"
    assert "weights-int4" in ended.error["help"][0]
    assert "did you mean" in ended.error["help"][0]
