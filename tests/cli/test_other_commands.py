import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advisor.cli.schema import schema_of
from advisor.profiles.errors import ExitCode
from advisor.profiles.request import Limits
from advisor.profiles.run import Run as RunFile
from advisor.quantities.limits import LIMITS

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
CANNED_RUN = Path(__file__).parents[1] / "canned" / "run.json"
GOLDEN_PLAN = Path(__file__).parents[1] / "golden" / "plan.yaml"
ESTIMATE = ("estimate", LLAMA, "--hardware", "h100-sxm", "--prompt-tokens", "1k", "--output-tokens", "128")
Run = Callable[..., Any]


def test_estimate_prices_every_metric_with_range_and_basis(advisor: Run) -> None:
    metrics = advisor(*ESTIMATE, "--concurrency", "8", "--json").data["metrics"]
    words = {
        "ttft_ms_mean", "ttft_ms_p95", "tpot_ms_mean", "throughput_tok_s",
        "decode_tok_s", "prefill_tok_s", "peak_memory_gib", "max_concurrency",
    }  # fmt: skip
    assert words <= set(metrics)
    for name, metric in metrics.items():
        assert set(metric) == {"value", "range", "basis"}, name
        assert metric["range"][0] <= metric["value"] <= metric["range"][1], name


def test_what_vllm_reserves_for_the_windows_of_a_step_is_said_where_nothing_fits(advisor: Run) -> None:
    served = ("estimate", "deepseek-ai/DeepSeek-V4-Flash", "--hardware", "h100-sxm", "--devices", "2", "--tp", "2", "--engine", "vllm")
    error = " ".join(advisor(*served, "--prompt-tokens", "1k", "--output-tokens", "128").err.split())
    assert "one request does not fit: it needs" in error
    assert "of it reserved for the windows of a step, of which 73.3 GiB are usable" in error


def test_estimate_says_which_cache_it_assumed_unless_it_was_given(advisor: Run) -> None:
    served = ("estimate", "Qwen/Qwen3-30B-A3B-FP8", "--hardware", "rtx-4090", "--devices", "2", "--tp", "2", "--engine", "vllm")
    lengths = ("--prompt-tokens", "1k", "--output-tokens", "128")
    assumed, given = (advisor(*served, *lengths, "--json", *kv).data for kv in ((), ("--kv", "fp8")))
    assert (assumed["kv_format"], given["kv_format"]) == ("bf16", "fp8")
    assert assumed["assumed"] == [
        "KV cache in bf16: the default of vllm, as the checkpoint brings no cache scales; --kv sets another format"
    ]
    assert given["assumed"] == []
    assert assumed["metrics"]["kv_cache_gib"]["value"] == 2 * given["metrics"]["kv_cache_gib"]["value"]
    assert "KV cache in bf16: the default of vllm" in advisor(*served, *lengths).out.replace("\n", " ")


def test_a_cache_format_may_have_the_name_of_its_engine(advisor: Run) -> None:
    served = (*ESTIMATE, "--engine", "llama.cpp", "--json", "--kv")
    named, plain = (advisor(*served, name).data for name in ("q8_0", "int8"))
    assert (named["kv_format"], named["metrics"]["kv_cache_gib"]) == ("int8", plain["metrics"]["kv_cache_gib"])


def test_groups_of_more_devices_than_there_are_are_refused_and_devices_follow_from_the_groups(advisor: Run) -> None:
    refused = advisor(*ESTIMATE, "--devices", "8", "--tp", "16")
    assert (refused.code, "8 devices cannot be split" in refused.err) == (ExitCode.USAGE, True)
    assert advisor(*ESTIMATE, "--tp", "2", "--pp", "2").out.startswith("Layout: tensor parallel 2 × pipeline parallel 2")


@pytest.mark.parametrize("load", [(), ("--concurrency", "4"), ("--request-rate", "2"), ("--offline",)], ids=str)
def test_estimate_takes_every_kind_of_load(advisor: Run, load: tuple[str, ...]) -> None:
    assert advisor(*ESTIMATE, *load, "--json").data["metrics"]["throughput_tok_s"]["value"] > 0


def test_estimate_prices_the_formats_it_is_given(advisor: Run) -> None:
    plain = advisor(*ESTIMATE, "--json").data["metrics"]
    packed = advisor(*ESTIMATE, "--weights", "fp8", "--kv", "fp8", "--json").data["metrics"]
    assert packed["weights_gib"]["value"] < 0.7 * plain["weights_gib"]["value"]
    assert packed["kv_cache_gib"]["value"] < 0.7 * plain["kv_cache_gib"]["value"]


def test_estimate_takes_the_engine_s_defaults_for_what_is_not_said(advisor: Run) -> None:
    words = ("--engine", "tensorrt-llm", "--weights", "fp8", "--json")
    assert advisor(*ESTIMATE, *words).data["metrics"] == advisor(*ESTIMATE, "--kv", "fp8", *words).data["metrics"]


def test_estimate_says_where_its_setting_was_never_compared(advisor: Run) -> None:
    compared = (*ESTIMATE, "--concurrency", "8", "--engine", "vllm")
    assert advisor(*compared, "--json").data["outside"] is None
    assert "never compared" not in advisor(*compared).out
    stranger = (*ESTIMATE, "--concurrency", "8", "--engine", "advisor")
    assert "engine advisor" in advisor(*stranger, "--json").data["outside"]
    assert "Never compared with measurements: engine advisor." in advisor(*stranger).out


def test_estimate_says_what_makes_its_numbers_hypothetical(advisor: Run) -> None:
    large = ("estimate", "meta-llama/Meta-Llama-3.1-405B", "--hardware", "rtx-4090", "--prompt-tokens", "100k", "--output-tokens", "40k")
    said = advisor(*large).err.splitlines()
    assert said[0] == "note: meta-llama/Meta-Llama-3.1-405B supports 131072 tokens of context; the workload needs 143360"
    assert said[1].startswith("note: one request does not fit: ")
    assert said[1].count(" GiB") == 2
    assert advisor(*ESTIMATE).err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "llama.cpp", "--weights", "exl2-4.5bpw"), "is not known to support exl2-4.5bpw weights"),
        (("--engine", "vllm", "--kv", "int8"), "is not known to support a KV cache in int8"),
        (("--engine", "vllm", "--request-rate", "1000"), "requests arrive faster than the"),
    ],
    ids=str,
)
def test_estimate_says_what_an_engine_cannot_do(advisor: Run, words: tuple[str, ...], said: str) -> None:
    ended = advisor(*ESTIMATE, *words, "--json")
    assert said in ended.err
    assert [note for note in ended.data["notes"] if said in note], "quiet readers of JSON learn of it, too"
    assert advisor(*ESTIMATE, "--engine", "vllm", "--json").data["notes"] == []


def test_estimate_measures_the_longest_request_of_a_trace_against_the_model(advisor: Run, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,200000,10\n1,20,10\n")
    words = ("estimate", "meta-llama/Meta-Llama-3.1-8B", "--hardware", "h100-sxm", "--load-trace", tmp_path / "trace.csv")
    assert "supports 131072 tokens of context; the workload needs 200010" in advisor(*words).err


def test_estimate_gives_in_json_the_probability_of_each_limit(advisor: Run) -> None:
    chances = advisor(*ESTIMATE, "--ttft-ms", "100000", "--tpot-ms", "0.001", "--json").data["chances"]
    assert chances["ttft_ms_p95"] > 0.99
    assert chances["tpot_ms_p95"] < 0.01
    assert advisor(*ESTIMATE, "--json").data["chances"] == {}


def test_estimate_splits_weights_over_devices(advisor: Run) -> None:
    plain = advisor(*ESTIMATE, "--json").data["metrics"]["weights_gib"]["value"]
    split = advisor(*ESTIMATE, "--devices", "2", "--tp", "2", "--json").data["metrics"]["weights_gib"]["value"]
    assert split == pytest.approx(plain / 2, rel=0.02)


@pytest.mark.parametrize(
    ("words", "code", "exit_code", "field"),
    [
        (("--concurrency", "2", "--offline"), "usage", ExitCode.USAGE, "concurrency"),
        (("--concurrency", "0"), "bad-value", ExitCode.USAGE, "concurrency"),
        (("--weights", "int5"), "unknown-format", ExitCode.USAGE, "weights"),
        (("--kv", "gguf-q4_0"), "unknown-format", ExitCode.USAGE, "kv"),
        (("--tp", "3"), "usage", ExitCode.USAGE, "tp"),
        (("--pp", "33"), "usage", ExitCode.USAGE, "pp"),
        (("--engine", "nope"), "engine-not-found", ExitCode.MISSING, "engine"),
        (("--devices", "3", "--tp", "2"), "usage", ExitCode.USAGE, "devices"),
    ],
    ids=str,
)
def test_estimate_refuses_what_makes_no_sense(advisor: Run, words: tuple[str, ...], code: str, exit_code: ExitCode, field: str) -> None:
    ended = advisor(*ESTIMATE, *words, "--error-format", "json")
    assert (ended.error["code"], ended.error["field"], ended.code, ended.out) == (code, field, exit_code, "")


def test_compare_prints_predicted_and_measured_values(advisor: Run, tmp_path: Path) -> None:
    ended = advisor("compare", CANNED_RUN)
    assert "predicted" in ended.out
    assert "measured" in ended.out
    (tmp_path / "run.json").write_bytes(CANNED_RUN.read_bytes())
    assert advisor("compare", tmp_path).out == ended.out, "the folder of a run will do"
    assert advisor("compare", CANNED_RUN, "--json").data["format"] == "1.0"


def changed_run(path: Path, **limits: float) -> Path:
    run = RunFile.model_validate_json(CANNED_RUN.read_text(encoding="utf-8"))
    words = run.request.model_copy(update={"limits": Limits(**limits)})
    path.write_text(run.model_copy(update={"request": words}).model_dump_json(), encoding="utf-8")
    return path


def test_a_measured_miss_of_a_limit_is_exit_code_5(advisor: Run, tmp_path: Path) -> None:
    run = RunFile.model_validate_json(CANNED_RUN.read_text(encoding="utf-8"))
    last = run.rungs[-1].measured
    assert last is not None
    assert last.throughput_tok_s is not None
    met = changed_run(tmp_path / "kept.json", throughput_tok_s=last.throughput_tok_s.value * 0.9)
    missed = changed_run(tmp_path / "missed.json", throughput_tok_s=last.throughput_tok_s.value * 1.1)
    assert advisor("compare", missed).code == ExitCode.LIMIT_MISSED
    assert advisor("compare", met).code == ExitCode.OK


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "Plan"}', "[" * 100_000])
def test_a_file_that_is_not_a_run_is_refused(advisor: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    ended = advisor("compare", path, "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("run-file", ExitCode.USAGE)


def test_a_missing_run_is_an_error(advisor: Run, tmp_path: Path) -> None:
    assert advisor("compare", tmp_path / "run.json").code == ExitCode.MISSING
    assert advisor("compare", tmp_path).code == ExitCode.MISSING


@pytest.mark.parametrize(
    ("change", "code", "exit_code"),
    [
        (lambda text: text, "plan-stale", ExitCode.STALE),
        (lambda text: text.replace("max_num_seqs: 16", "max_num_seqs: 8"), "plan-edited", ExitCode.STALE),
        (lambda text: text.replace('format: "1.0"', 'format: "9.0"'), "plan-format", ExitCode.USAGE),
        (lambda text: text.replace("concurrency: 16", "concurrency: -16"), "plan-field", ExitCode.USAGE),
        (lambda text: text.replace("apply:", "apply: ["), "bad-yaml", ExitCode.USAGE),
    ],
    ids=["another machine", "edited", "another major", "negative", "broken"],
)
def test_apply_refuses_a_plan_before_anything_runs(
    advisor: Run, tmp_path: Path, change: Callable[[str], str], code: str, exit_code: ExitCode
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(change(GOLDEN_PLAN.read_text(encoding="utf-8")), encoding="utf-8")
    ended = advisor("apply", plan, "--out", tmp_path / "out", "--error-format", "json")
    assert (ended.error["code"], ended.code, ended.out) == (code, exit_code, "")
    assert not (tmp_path / "out").exists()


def test_apply_without_the_file_is_missing(advisor: Run, tmp_path: Path) -> None:
    assert advisor("apply", tmp_path / "plan.yaml").code == ExitCode.MISSING


def test_unknown_keys_are_warned_about_once(advisor: Run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        GOLDEN_PLAN.read_text(encoding="utf-8").replace("  attention:", "  graphs: {cuda: true}\n  attention:"), encoding="utf-8"
    )
    ended = advisor("apply", plan, "--accept-edits", "--out", tmp_path / "out")
    assert ended.err.count("apply.graphs") == 1
    assert ended.code == ExitCode.STALE


def test_hardware_alone_lists_and_a_word_is_shown(advisor: Run) -> None:
    assert advisor("hardware").out == advisor("hardware", "list").out
    assert advisor("hardware", "h100-sxm").out == advisor("hardware", "show", "h100-sxm").out
    listed = advisor("hardware", "--json").data["hardware"]
    assert len(listed) >= 60
    assert all(item["sources"] for item in listed)


def test_a_mistyped_id_is_corrected(advisor: Run) -> None:
    ended = advisor("hardware", "h100sxn", "--error-format", "json")
    assert ended.code == ExitCode.MISSING
    assert any("h100-sxm" in line for line in ended.error["help"])


def test_detection_works_with_nothing_but_a_processor(advisor: Run) -> None:
    report = advisor("hardware", "detect", "--json").data
    assert report["host"]["ram_total_bytes"] > 0
    assert report["host"]["cpu"]["usable_cores"] >= 1
    assert report["fingerprint"].startswith(("cpu:", "gpu:"))


def test_models_are_listed_and_shown(advisor: Run) -> None:
    listed = advisor("models", "--json").data["models"]
    assert len(listed) > 60
    assert advisor("models", LLAMA, "--json").data["parameters"] == 8030261248
    assert "error[model-not-found]" in advisor("models", "show", "no/such", "--offline").err


@pytest.mark.parametrize("words", [("show", "lab"), ("rm", "lab")])
def test_a_profile_that_is_not_stored_is_missing(advisor: Run, words: tuple[str, ...]) -> None:
    ended = advisor("profile", *words, "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("profile-not-found", ExitCode.MISSING)


@pytest.mark.parametrize("name", ["now", "auto", "none", "Lab", "a/b", "../x"])
def test_a_bad_profile_name_is_refused_before_measuring(advisor: Run, name: str) -> None:
    ended = advisor("profile", "run", "--name", name, "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("bad-profile-name", ExitCode.USAGE)


@pytest.mark.parametrize("kind", ["plan", "profile", "run"])
def test_schema_is_a_schema(advisor: Run, kind: str) -> None:
    schema = json.loads(advisor("schema", kind).out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == schema_of(kind)


def test_the_run_schema_describes_runs() -> None:
    jsonschema.validate(json.loads(CANNED_RUN.read_text(encoding="utf-8")), schema_of("run"))


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("weights-int8", "technique"),
        ("ttft_ms_p95", "metric"),
        ("tpot-ms", "limit"),
        ("quality-loss", "limit"),
        ("apply.kv_cache.layout", "plan field"),
        ("fingerprint", "plan field"),
        ("error[plan-stale]", "error code"),
    ],
)
def test_explain_has_a_page_for_every_kind_of_topic(advisor: Run, topic: str, kind: str) -> None:
    page = advisor("explain", topic, "--json").data
    assert page["kind"] == kind
    assert all(part["text"] for part in page["parts"])


def test_explain_has_a_page_for_every_topic_that_it_lists(advisor: Run) -> None:
    for names in advisor("explain", "--json").data["topics"].values():
        for name in names:
            assert advisor("explain", name).code == 0, name


def test_explain_lists_every_limit_and_its_page_names_the_option(advisor: Run) -> None:
    assert advisor("explain", "--json").data["topics"]["limits"] == list(LIMITS)
    for limit in LIMITS.values():
        assert any(limit.flag in text for _, text in parts_of(advisor, limit.name)), limit.name


@pytest.mark.parametrize(
    ("topic", "names"),
    [
        ("tpot", "tpot_ms_p95: 95th percentile"),
        ("TPOT", "--tpot-ms"),
        ("ttft_ms", "ttft_ms_p50: Median"),
        ("quality_loss", "--quality-loss"),
        ("peak-memory", "--memory-gib"),
    ],
)
def test_a_metric_is_found_by_its_other_names(advisor: Run, topic: str, names: str) -> None:
    page = advisor("explain", topic, "--json").data
    assert page["kind"] == "metric"
    assert any(names in part["text"] for part in page["parts"]), page["parts"]


@pytest.mark.parametrize("topic", ["weights-int5", "int4", "int5"])
def test_an_unknown_topic_names_the_nearest(advisor: Run, topic: str) -> None:
    ended = advisor("explain", topic)
    assert ended.code == ExitCode.USAGE
    assert "advisor explain weights-int4" in ended.err


def test_doctor_prints_no_private_names(advisor: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("USER", "janedoe")
    monkeypatch.setenv("HOME", str(tmp_path / "janedoe"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "janedoe" / "data"))
    monkeypatch.setenv("ADVISOR_PLAN_PROFILE", "/home/someone/lab.yaml")
    report = advisor("doctor", "--json")
    assert "janedoe" not in report.out
    assert "someone" not in report.out
    assert report.data["paths"]["profiles"] == "~/data/advisor/profiles"
    assert report.data["machine"]["fingerprint"]
    assert report.data["packages"]["pydantic"]


@pytest.fixture(scope="module")
def llama_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from advisor.planfile.from_advice import plan_of
    from advisor.planfile.store import save_plan
    from advisor.planning.question import PlanQuestion
    from advisor.service import plan

    path = tmp_path_factory.mktemp("plans") / "plan.yaml"
    advice = plan(
        PlanQuestion(model=LLAMA, hardware="rtx-4090", profile="none", limits=Limits(ttft_ms_p95=500), concurrency=4, offline=True)
    )
    save_plan(plan_of(advice), path)
    return path


def parts_of(advisor: Run, *words: object) -> list[tuple[str, str]]:
    return [(part["heading"], part["text"]) for part in advisor("explain", *words, "--json").data["parts"]]


def test_explain_gives_for_every_technique_when_it_helps_and_hurts_and_its_source(advisor: Run) -> None:
    for name in advisor("explain", "--json").data["topics"]["techniques"]:
        parts = dict(parts_of(advisor, name))
        assert {"", "Helps when", "Hurts when", "Source"} <= set(parts), name
        assert all(parts.values()), name


def test_explain_says_what_a_technique_does_in_a_plan(advisor: Run, llama_plan: Path) -> None:
    parts = dict(parts_of(advisor, "weights-int8", "--plan", llama_plan))
    assert " -> " in parts["In this plan"]
    assert "Admitted by" not in parts


def test_explain_says_what_would_admit_a_technique(advisor: Run, llama_plan: Path) -> None:
    parts = parts_of(advisor, "weights-int4", "--plan", llama_plan)
    ways = [text for heading, text in parts if heading in ("Admitted by", "Or by")]
    assert "Not in this plan" in dict(parts)
    assert any("--require weights-int4" in way for way in ways)
    assert any("--memory-gib" in way and "planned again, the plan has it" in way for way in ways)


def test_explain_of_a_plan_leads_with_its_binding_limit(advisor: Run, llama_plan: Path) -> None:
    parts = parts_of(advisor, "--plan", llama_plan)
    assert parts[0][0] == "The binding limit"
    assert parts[0][1].startswith("TTFT p95 ")
    assert "the limit is at most 500 ms" in parts[0][1]
    gains = [text for heading, text in parts if heading.startswith("One more")]
    assert len(gains) == 2, "of TTFT and of memory, the limits that there are"
    assert all(" gives " in gain for gain in gains)


def test_explain_of_a_limit_says_where_the_plan_stands(advisor: Run, llama_plan: Path) -> None:
    assert "met with" in dict(parts_of(advisor, "ttft-ms", "--plan", llama_plan))["In this plan"]
    assert dict(parts_of(advisor, "tpot-ms", "--plan", llama_plan))["In this plan"] == "Not limited."


def test_topics_are_completed(advisor: Run) -> None:
    import click

    from advisor.cli.explain import command, complete

    context = click.Context(command)
    assert complete(context, command.params[0], "weights-i") == ["weights-int4", "weights-int8"]
    assert "plan-stale" in complete(context, command.params[0], "plan-")


def test_a_run_without_its_plan_cannot_be_refitted(advisor: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(CANNED_RUN.read_bytes())
    ended = advisor("profile", "refit", str(tmp_path), "--error-format", "json")
    assert (ended.error["code"], ended.code) == ("file-not-found", ExitCode.MISSING)
    assert "refit" in advisor("explain", "nothing-to-refit").out
