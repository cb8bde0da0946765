import dataclasses
import json
import os
import re
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from advisor.backends.deployment import Batching, BatchPolicy, Deployment, baseline
from advisor.backends.technique import Technique
from advisor.backends.techniques import by_name, options_of
from advisor.cli.schema import schema_of
from advisor.planfile.check import check_decision, check_edits, check_model, replan_command
from advisor.planfile.deployment import deployment_of, techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planfile.from_advice import from_advice
from advisor.planfile.store import read_plan, save_plan
from advisor.planfile.summary import round_enough
from advisor.planfile.yaml import plain_number, to_yaml
from advisor.planning.advice import Advice, Candidate, Reason, Relaxation, Status, TechniqueState, Violation
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Limits, Prefer, Request, Workload
from advisor.quantities.limits import METRIC_OF
from advisor.quantities.metrics import satisfies
from tests.paths import ROOT

GOLDEN = ROOT / "tests/golden"
BEFORE_CHUNKED_PREFILL = ROOT / "tests/canned/plan-before-chunked-prefill.yaml"
LATER_MINOR = ROOT / "tests/canned/plan-another-minor.yaml"
MODEL = find_model("meta-llama/Meta-Llama-3.1-8B")
REQUEST = Request(
    workload=Workload(prompt_tokens=3584, output_tokens=512, concurrency=16),
    limits=Limits(tpot_ms_p95=30.0, ttft_ms_p95=500.0, quality_loss_pct=1.0),
    prefer=Prefer.LATENCY,
)
STACK = ("weights-int8", "attention-sdpa", "kv-paged", "batching-continuous")


def value(number: float, basis: Basis = Basis.CATALOGUE) -> Value:
    return Value(value=number, low=number * 0.9, high=number * 1.2, basis=basis)


def candidate(
    id: str, techniques: tuple[Technique, ...], tpot: float, status: Status = Status.MEETS, misses: tuple[Violation, ...] = ()
) -> Candidate:
    deployment: Deployment = baseline(MODEL, max_sequences=16)
    for technique in techniques:
        deployment = technique.sketch(deployment, REQUEST)
    metrics = Metrics(
        ttft_ms_p95=value(302.4567), tpot_ms_p50=value(tpot * 0.8), tpot_ms_p95=value(tpot), throughput_tok_s=value(16e3 / tpot),
        peak_memory_gib=value(21.3456), weights_gib=Value.exact(7.51234), kv_cache_gib=Value.exact(8.0),
        quality_loss_pct=value(0.2, Basis.LITERATURE),
    )  # fmt: skip
    return Candidate(id, techniques, deployment, metrics, status, misses, (("ttft_ms_p95", 0.934), ("memory_gib_per_device", 0.996)))


def advice(**changes: object) -> Advice:
    chosen = candidate("a", tuple(by_name(name) for name in STACK), 12.345)
    other = candidate("b", tuple(by_name(name) for name in STACK[1:]), 17.0)
    complete = Advice(
        request=REQUEST,
        model=MODEL,
        hardware=load_hardware("h100-sxm"),
        profile=None,
        chosen=chosen,
        ranked=(chosen, other),
        reasons=(
            Reason(
                "weights-int8",
                TechniqueState.CHOSEN,
                "Halves the weights.",
                effect=(("tpot_ms_p50", -3.7),),
                sources=("arxiv:2208.07339",),
            ),
            Reason(
                "weights-int4",
                TechniqueState.REJECTED,
                "quality: 3.21 [2.1, 4.5] % is over 1 %.",
                would_need=(("quality_loss_pct", 3.2149),),
            ),
        ),
        relaxations=(),
        binding=None,
        considered=96,
        feasible=48,
        budget_gib=73.2,
    )
    return dataclasses.replace(complete, **changes)  # type: ignore[arg-type]  # tests name the fields


@pytest.fixture(autouse=True)
def fixed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795000000")


def plan(**changes: object) -> PlanFile:
    return from_advice(advice(**changes), fingerprint="sheet:h100-sxm*1")


LIMITED = load_hardware("h100-sxm").model_copy(update={"power_limit_w": 500.0})


def written(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> AdvisorError:
    with pytest.raises(AdvisorError) as caught:
        read_plan(path)
    return caught.value


def test_text_equals_the_golden_file() -> None:
    golden = GOLDEN / "plan.yaml"
    if os.environ.get("ADVISOR_REGOLD"):
        golden.write_text(to_yaml(plan()), encoding="utf-8")
    assert to_yaml(plan()) == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [LATER_MINOR, BEFORE_CHUNKED_PREFILL, GOLDEN / "plan.yaml"], ids=lambda path: path.name)
def test_a_plan_reads_back_as_itself(path: Path, tmp_path: Path) -> None:
    first = read_plan(path)
    again = read_plan(written(tmp_path, to_yaml(first)))
    assert again == first
    assert to_yaml(again) == to_yaml(first)


@pytest.mark.parametrize("path", [LATER_MINOR, BEFORE_CHUNKED_PREFILL, GOLDEN / "plan.yaml"], ids=lambda path: path.name)
def test_plans_satisfy_the_published_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema_of("plan"))


@pytest.mark.parametrize("kind", ["plan", "profile", "run", "hardware"])
def test_the_committed_schema_is_current(kind: str) -> None:
    committed = ROOT / "docs/schema" / f"{kind}-1.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == schema_of(kind), f"run: advisor schema {kind} > {committed}"


def test_the_schema_refuses_a_negative_limit() -> None:
    record = yaml.safe_load((GOLDEN / "plan.yaml").read_text(encoding="utf-8"))
    record["limits"]["tpot_ms_p95"] = -1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, schema_of("plan"))


def test_request_and_deployment_come_back(tmp_path: Path) -> None:
    original = advice()
    again = read_plan(written(tmp_path, to_yaml(plan())))
    assert request_of(again) == original.request
    assert deployment_of(again, MODEL) == original.chosen.deployment
    assert techniques_of(again) == original.chosen.techniques


def test_speculation_with_a_draft_comes_back(tmp_path: Path) -> None:
    chosen = candidate("a", (by_name("decode-prompt-lookup"),), 12.0)
    again = read_plan(written(tmp_path, to_yaml(plan(chosen=chosen, ranked=(chosen,)))))
    read, expected = deployment_of(again, MODEL).decoding, chosen.deployment.decoding
    assert (read.method, read.draft_tokens) == ("prompt-lookup", expected.draft_tokens)
    assert read.acceptance == pytest.approx(expected.acceptance, rel=0.01)


def test_the_id_follows_the_decision_and_not_the_prediction() -> None:
    original = advice()
    slower = dataclasses.replace(original.chosen, metrics=Metrics(tpot_ms_p95=value(14.0)))
    smaller = dataclasses.replace(
        original.chosen, deployment=dataclasses.replace(original.chosen.deployment, batching=Batching(BatchPolicy.CONTINUOUS, 8, 2048))
    )
    assert plan(chosen=slower).id == plan().id
    assert plan(chosen=smaller).id != plan().id
    assert plan(request=REQUEST.model_copy(update={"limits": Limits(tpot_ms_p95=31.0)})).id != plan().id
    assert from_advice(original, fingerprint="sheet:h100-sxm*2").id != plan().id
    assert plan().provenance.digest.removeprefix("sha256:").startswith(plan().id.removeprefix("plan-"))


@pytest.mark.parametrize(
    "id", ["x/../../../../victim/evil", "..", "", "plan-", "plan-8ef5d5dc/x", "plan-8EF5D5DC", "plan-8ef5d5dc\n", "/tmp/x", "7"]
)
def test_an_id_that_is_no_digest_is_refused(tmp_path: Path, id: str) -> None:
    text = (GOLDEN / "plan.yaml").read_text(encoding="utf-8")
    error = refused(written(tmp_path, re.sub("^id: .*", lambda _: f"id: {json.dumps(id)}", text, flags=re.MULTILINE)))
    assert (error.code, error.line) == ("plan-field", 5)
    assert "`id`" in error.message


def test_another_id_is_an_edit(tmp_path: Path) -> None:
    text = (GOLDEN / "plan.yaml").read_text(encoding="utf-8")
    assert not read_plan(written(tmp_path, text)).edited
    assert read_plan(written(tmp_path, re.sub("^id: .*", "id: plan-00000000", text, flags=re.MULTILINE))).edited


@pytest.mark.parametrize("number", ["1" + "0" * 300, "1" + "0" * 5000, "90071992547409930", "1.0e+400", ".inf", ".nan", "-1", "0x1p1"])
@pytest.mark.parametrize("key", ["context_tokens", "output_tokens", "concurrency", "tpot_ms_p95"])
def test_a_number_that_nothing_has_is_refused(tmp_path: Path, key: str, number: str) -> None:
    text = (GOLDEN / "plan.yaml").read_text(encoding="utf-8")
    error = refused(written(tmp_path, re.sub(rf"^  {key}: .*", f"  {key}: {number}", text, count=1, flags=re.MULTILINE)))
    assert error.code in ("plan-field", "bad-yaml")
    assert key in error.message or "digits" in error.message


@pytest.mark.parametrize("trace", ["/dev/zero", "/dev/random", "pipe", ".", "a\0b", "missing"])
def test_a_trace_of_a_plan_that_is_no_regular_file_is_not_read(tmp_path: Path, trace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(AdvisorError) as caught:
        request_of(plan().model_copy(update={"limits": plan().limits.model_copy(update={"load_trace": trace})}))
    assert caught.value.code == "bad-trace"


def test_a_power_limit_is_part_of_the_plan(tmp_path: Path) -> None:
    limited = plan(hardware=LIMITED)
    assert limited.machine.power_limit_w == 500
    assert limited.id != plan().id
    again = read_plan(written(tmp_path, to_yaml(limited)))
    assert again == limited
    assert not again.edited
    assert "--power-limit 500" in replan_command(again)
    assert "power" not in replan_command(plan())


def test_an_alternative_has_the_id_that_its_own_plan_would_have() -> None:
    original = advice()
    other = original.ranked[1]
    assert plan().verdict.alternatives[0].id == plan(chosen=other).id
    assert plan().verdict.alternatives[0].change == "-weights-int8"


def test_a_hand_edit_of_the_decision_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, to_yaml(plan()).replace("max_num_seqs: 16", "max_num_seqs: 8"))
    edited = read_plan(path)
    assert edited.edited
    assert not plan().edited
    with pytest.raises(AdvisorError) as caught:
        check_edits(edited, path, accepted=False)
    assert (caught.value.code, caught.value.exit_code) == ("plan-edited", ExitCode.STALE)
    assert any("--accept-edits" in line for line in caught.value.help)
    check_edits(edited, path, accepted=True)


def test_settings_that_the_techniques_do_not_make_are_refused(tmp_path: Path) -> None:
    check_decision(plan(), MODEL)
    path = written(
        tmp_path,
        to_yaml(plan()).replace("backend: sdpa", "backend: eager").replace("block_tokens: 16}\n  spec", "block_tokens: 32}\n  spec"),
    )
    with pytest.raises(AdvisorError) as caught:
        check_decision(read_plan(path), MODEL)
    assert (caught.value.code, caught.value.exit_code) == ("plan-inconsistent", ExitCode.USAGE)
    assert caught.value.notes == (
        "attention backend: eager in the settings, sdpa by the techniques",
        "kv block tokens: 32 in the settings, 16 by the techniques",
    )


@pytest.mark.parametrize(
    ("prompt_tokens", "name", "options"),
    [(None, "batching-chunked-prefill", {"token_budget": 512}), (300, "batching-continuous", {"step_tokens": 512})],
    ids=["prompts-longer-than-a-step", "prompts-that-fit"],
)
def test_a_plan_from_before_chunked_prefill_had_its_own_name_means_what_it_did(
    prompt_tokens: int | None, name: str, options: dict[str, int], tmp_path: Path
) -> None:
    text = BEFORE_CHUNKED_PREFILL.read_text(encoding="utf-8")
    if prompt_tokens:
        text = text.replace("  output_tokens: 512\n", f"  prompt_tokens: {prompt_tokens}\n  output_tokens: 512\n")
    earlier = read_plan(written(tmp_path, text))
    assert earlier.edited is bool(prompt_tokens), "what it reads as is not an edit"
    last = techniques_of(earlier)[-1]
    assert (last.name, options_of(last)) == (name, options)
    assert deployment_of(earlier, MODEL).batching == Batching(BatchPolicy.CONTINUOUS, 16, 512, chunked=name == "batching-chunked-prefill")
    check_decision(earlier, MODEL)


def test_another_model_makes_the_plan_stale() -> None:
    check_model(plan(), MODEL)
    with pytest.raises(AdvisorError, match="another model"):
        check_model(plan(), find_model("meta-llama/Llama-2-7b-hf"))


def test_the_command_that_plans_again_names_every_limit() -> None:
    text = replan_command(plan())
    assert text.startswith("advisor plan meta-llama/Meta-Llama-3.1-8B ")
    for part in (
        "--ttft-ms 500",
        "--tpot-ms 30",
        "--quality-loss 1",
        "--context 4096",
        "--output-tokens 512",
        "--concurrency 16",
        "--prefer latency",
    ):
        assert part in text


def test_saving_the_same_plan_again_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.yaml"
    assert save_plan(plan(), path)
    noted = path.read_text(encoding="utf-8") + "# a person's note\n"
    path.write_text(noted, encoding="utf-8")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1796000000")
    assert not save_plan(plan(), path)
    assert path.read_text(encoding="utf-8") == noted


def test_saving_another_prediction_rewrites(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    save_plan(plan(), path)
    slower = dataclasses.replace(advice().chosen, metrics=Metrics(tpot_ms_p95=value(14.0)))
    assert save_plan(plan(chosen=slower), path)
    assert "value: 14, " in path.read_text(encoding="utf-8")


def test_a_full_disk_leaves_the_old_plan_whole(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "plan.yaml"
    save_plan(plan(), path)
    before = path.read_bytes()
    other = plan(request=REQUEST.model_copy(update={"limits": Limits(tpot_ms_p95=31.0)}))
    child = os.fork()
    if child == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
        try:
            save_plan(other, path)
        except AdvisorError as error:
            os._exit(0 if error.code == "disk-full" else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["plan.yaml"]


def test_every_bad_field_is_reported_with_its_line(tmp_path: Path) -> None:
    text = to_yaml(plan())
    text = text.replace("ttft_ms_p95: 500\n", 'ttft_ms_p95: "0.5s"\n', 1).replace("concurrency: 16\n", "concurrency: -1\n")
    text = text.replace("status: meets", "status: fine").replace("state: chosen", "state: 7")
    path = written(tmp_path, text)
    error = refused(path)
    lines = text.splitlines()
    assert (error.code, error.exit_code) == ("plan-field", ExitCode.USAGE)
    sentences = [error.message, *error.notes]
    assert len(sentences) == 4
    for sentence, shown in zip(sentences, ("concurrency: -1", "ttft_ms_p95:", "status: fine", "state: 7"), strict=True):
        number = int(sentence.split(":")[1])
        assert shown in lines[number - 1], sentence
    assert '`limits.ttft_ms_p95` must be a number of ms, got "0.5s"' in error.notes[0]
    assert "write ttft_ms_p95: 500" in error.help


@pytest.mark.parametrize("given", ["0", "1.5", "null", "true", '"many"'])
def test_a_bad_value_is_shown_as_it_was_written(tmp_path: Path, given: str) -> None:
    text = to_yaml(plan()).replace("max_num_seqs: 16", f"max_num_seqs: {given}")
    assert refused(written(tmp_path, text)).message.endswith(f"got {given}")


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    text = to_yaml(plan())
    start, end = text.index("\nmachine:"), text.index("\napply:")
    assert "`machine` is missing" in refused(written(tmp_path, text[:start] + text[end:])).message


@pytest.mark.parametrize(
    ("before", "after", "code", "says"),
    [
        ('format: "1.0"', 'format: "2.0"', "plan-format", 'format "2.0"'),
        ('format: "1.0"', "format: 1.0", "plan-format", "quoted"),
        ("kind: Plan", "kind: Run", "plan-field", "kind: Run"),
        ("kind: Plan", "kind: Plan\nkind: Plan", "bad-yaml", "twice"),
        ("  task: inference", "  task: &a inference", "bad-yaml", "anchors"),
        ("  task: inference", "  task: [inference", "bad-yaml", "line"),
        ("concurrency: 16", "concurrency: true", "plan-field", "concurrency"),
        ("concurrency: 16", "concurrency: 1.5", "plan-field", "concurrency"),
        ("tpot_ms_p95: 30", "tpot_ms_p95: 0", "plan-field", "greater than 0"),
        ("tpot_ms_p95: 30", "tpot_ms_p95: .nan", "plan-field", "tpot_ms_p95"),
    ],
)
def test_a_file_that_is_not_a_plan_is_refused(tmp_path: Path, before: str, after: str, code: str, says: str) -> None:
    error = refused(written(tmp_path, to_yaml(plan()).replace(before, after, 1)))
    assert (error.code, error.exit_code) == (code, ExitCode.USAGE)
    assert says in " ".join((error.message, *error.notes))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    assert refused(written(tmp_path, "# " + "x" * 5 * 2**20)).code == "too-large"


@pytest.mark.parametrize("text", ["", "[]", "3", "- a\n- b", "\x00"])
def test_arbitrary_text_is_refused_without_a_trace(tmp_path: Path, text: str) -> None:
    assert refused(written(tmp_path, text)).exit_code == ExitCode.USAGE


def test_unknown_keys_are_retained(tmp_path: Path) -> None:
    text = (
        to_yaml(plan()).replace('format: "1.0"', 'format: "1.7"').replace("  attention:", "  graphs: {cuda: true, sizes: []}\n  attention:")
    )
    again = read_plan(written(tmp_path, text))
    assert list(again.unknown_keys()) == ["apply.graphs"]
    assert "graphs: {cuda: true, sizes: []}" in to_yaml(again)


# fmt: off
TRAPS = [
    "no", "on", "null", "~", "1e3", "12:30:00", "0x1f", "1_000", "2026-11-22",
    "=", "<<", "a: b", "a #b", "- a", "%x", "@x", "", " a", "é\x85ü", "\ud83d\ude00",
    "'", '"', "\\", "\x7f", "1.0", ".5", "+1", "?", "? a", "!a", "*a",
    "&a", "|", ">", "a\nb", "\u2028", "a:", "{", "}",
]
# fmt: on


@pytest.mark.parametrize("word", TRAPS, ids=repr)
def test_words_that_yaml_misreads_survive(word: str) -> None:
    text = to_yaml(plan().model_copy(update={"title": word.encode("utf-16", "surrogatepass").decode("utf-16")}))
    assert yaml.safe_load(text)["title"] == word.encode("utf-16", "surrogatepass").decode("utf-16")


@settings(max_examples=150, deadline=None)
@example(title="A?", number=0.0)
@given(title=st.text(st.characters(codec="utf-8"), max_size=30), number=st.floats(min_value=-1e300, max_value=1e300))
def test_any_text_and_number_survives_two_yaml_readers(title: str, number: float) -> None:
    base = plan()
    reason = base.techniques[0].model_copy(update={"why": title, "effect": {title or "x": number}})
    text = to_yaml(base.model_copy(update={"title": title, "techniques": (reason,)}))
    for loader in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        record = yaml.load(text, Loader=loader)
        assert record["title"] == title
        assert record["techniques"][0]["why"] == title
        assert {key: float(read) for key, read in record["techniques"][0]["effect"].items()} == {title or "x": number}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_never_take_an_exponent(number: float) -> None:
    text = plain_number(number)
    assert "e" not in text.lower()
    assert float(text) == number


@given(st.sampled_from(sorted(METRIC_OF)), st.floats(min_value=sys.float_info.min * 1e6, max_value=1e12))
def test_a_rounded_limit_admits_the_plan(limit: str, needed: float) -> None:
    rounded = round_enough(limit, needed)
    assert satisfies(METRIC_OF[limit], needed, rounded * (1 - 1e-9 if METRIC_OF[limit].higher_is_better else 1 + 1e-9))
    assert rounded == pytest.approx(needed, rel=0.0101)


def test_when_nothing_fits_the_file_says_what_would_help() -> None:
    nearest = candidate("a", (), 40.0, Status.INFEASIBLE, (Violation("tpot_ms_p95", 30.0, value(40.0)),))
    relaxed = Relaxation("tpot_ms_p95", 30.0, 40.04, nearest)
    made = plan(chosen=nearest, ranked=(nearest,), binding=nearest.violations[0], relaxations=(relaxed,), feasible=0)
    assert made.verdict.status == "misses"
    assert "tpot_ms_p95: 40.0 [36.0, 48.0] ms, limit 30" in made.verdict.summary
    assert made.verdict.relax[0].needed == 40.1
    record = yaml.safe_load(to_yaml(made))
    assert record["predicted"]["tpot_ms_p95"]["ok"] is False


def test_numbers_have_three_digits_and_stay_in_their_range() -> None:
    record = yaml.safe_load(to_yaml(plan()))
    assert record["predicted"]["ttft_ms_p95"]["value"] == 302
    assert record["predicted"]["tpot_ms_p95"] == {"value": 12.3, "range": [11.1, 14.8], "basis": "catalogue", "limit": 30, "ok": True}
    assert record["predicted"]["memory_gib_per_gpu"]["total"]["value"] == 21.3


def test_no_home_path_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home" / "jane"
    monkeypatch.setenv("HOME", str(home))
    model = dataclasses.replace(MODEL, folder=str(home / "models" / "mine"))
    made = plan(model=model)
    assert "jane" not in to_yaml(made)
    assert made.model.path == "~/models/mine"
