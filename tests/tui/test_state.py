"""Form, saved state and problems, without a screen."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.cli.load_options import FLAGS
from advisor.cli.main import cli
from advisor.cli.plan import command
from advisor.profiles.errors import AdvisorError
from advisor.tui.form.fields import FIELDS, OF_LIMIT
from advisor.tui.form.history import MOST_STEPS, History
from advisor.tui.form.problem import question_problem
from advisor.tui.form.question import question_of
from advisor.tui.form.saved_state import SavedState, load_state, save_state, with_mark
from advisor.tui.form.values import Constraint, FormValues
from advisor.tui.launch import restore_state
from advisor.tui.workers.planning_client import PlanningClient

texts = st.dictionaries(st.sampled_from([field.name for field in FIELDS]), st.text("0123456789kms. GB%-", min_size=1, max_size=8))
questions = st.builds(
    lambda texts, require: FormValues({name: text.strip() for name, text in texts.items() if text.strip()}, require),
    texts,
    st.lists(st.sampled_from(["weights-int4", "kv-int8"]), unique=True).map(tuple),
)


def test_every_field_is_a_parameter_of_the_command_with_its_flag() -> None:
    flags = {param.name: param.opts for param in command.params}
    for field in FIELDS:
        assert field.name in flags
        assert field.flag is None or field.flag in flags[field.name]
    assert set(OF_LIMIT.values()) <= {field.name for field in FIELDS}
    assert set(FLAGS) - {"offline_load"} <= {field.name for field in FIELDS}
    assert cli.name == "cli"


def test_values_are_read_as_the_command_line_reads_them() -> None:
    values = FormValues(
        {"model": "demo", "context": "8k", "ttft_ms": "0.5s", "memory_gib": "24GB", "request_rate": "30/min", "quality_loss": "1%"}
    )
    question = question_of(values)
    assert (
        question.context_tokens,
        question.limits.bound("ttft_ms_p95"),
        question.request_rate_per_s,
        question.limits.bound("quality_loss_pct"),
    ) == (
        8192,
        500,
        0.5,
        1,
    )
    for field in FIELDS:
        if field.quantity and values.text(field.name):
            numbers = [getattr(question, name) for name in question.__dataclass_fields__] + list(question.limits.model_dump().values())
            assert field.read(values.text(field.name)) in numbers


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("ttft_ms", "soon", "type 500"),
        ("context", "8.5", "whole number"),
        ("tpot_ms", "-3", "greater than 0"),
        ("memory_gib", "24 cats", "GiB"),
        ("memory_gib", "9" * 400, "smaller number"),
        ("devices", "two", "type 2"),
    ],
)
def test_what_cannot_be_read_says_what_to_type(field: str, text: str, says: str) -> None:
    errors = FormValues({field: text}).errors()
    assert list(errors) == [field]
    assert says in errors[field]


def test_two_loads_are_refused_in_the_words_of_the_form() -> None:
    with pytest.raises(AdvisorError) as raised:
        question_of(FormValues({"model": "demo", "concurrency": "4", "burst": "8"}))
    problem = question_problem(raised.value)
    assert problem.field == "concurrency"
    assert problem.sentences() == "Concurrency and burst exclude each other. Keep one of them, such as Concurrency"


@pytest.mark.parametrize(
    ("field", "text", "wrong", "says"),
    [
        (
            "model",
            "foo/bar",
            "model",
            "No model `foo/bar`. The hub was not asked. Enter in the field looks for it on the network; Esc and 0 list models",
        ),
        ("hardware", "2c", "hardware", "Unknown hardware `2c`. Did you mean a2, l20, h20? Esc and m list every machine"),
        ("load_trace", "/nowhere/trace.csv", "load_trace", "/nowhere/trace.csv: cannot be read"),
        ("shared_prefix", "100000", "shared_prefix", "Write Shared prefix 1024 or less"),
        ("prompt_tokens", "5000", "context", "Write Context 5256 or more"),
    ],
)
def test_a_failure_of_the_planner_marks_a_field_and_says_what_to_do_in_the_form(field: str, text: str, wrong: str, says: str) -> None:
    with pytest.raises(AdvisorError) as raised:
        PlanningClient().answer(FormValues({"model": "meta-llama/Llama-3.1-8B", "hardware": "rtx-4090"} | {field: text}))
    problem = question_problem(raised.value, text)
    assert problem.field == wrong
    assert says in problem.sentences()


def test_a_technique_is_forced_one_way_at_a_time() -> None:
    values = FormValues().with_constraint("kv-int8", Constraint.REQUIRED).with_constraint("kv-int8", Constraint.FORBIDDEN)
    assert (values.require, values.forbid, values.constraint_of("kv-int8")) == ((), ("kv-int8",), Constraint.FORBIDDEN)
    assert values.with_constraint("kv-int8", Constraint.FREE) == FormValues()


def test_a_technique_forced_in_with_options_is_forced_in() -> None:
    values = FormValues({}, ("kv-window:window=128",))
    assert values.constraint_of("kv-window") is Constraint.REQUIRED
    assert "--require=kv-window:window=128" in values.words()
    assert values.with_constraint("kv-window", Constraint.FORBIDDEN) == FormValues({}, (), ("kv-window",))


@given(st.lists(questions, max_size=8), st.integers(0, 10))
def test_what_is_undone_can_be_redone(steps: list[FormValues], back: int) -> None:
    history = History()
    for step in steps:
        history = history.changed(step)
    before = history
    for _ in range(back):
        history = history.undone()
    for _ in range(back):
        history = history.redone()
    assert history == before


def test_joined_changes_are_one_step_and_old_steps_are_let_go() -> None:
    history = History().changed(FormValues({"tpot_ms": "2"})).changed(FormValues({"tpot_ms": "25"}), join=True)
    assert history.undone().present == FormValues()
    for number in range(2 * MOST_STEPS):
        history = history.changed(FormValues({"tpot_ms": str(number)}))
    assert len(history.past) == MOST_STEPS


@given(questions, questions, st.sampled_from([(), ("a",), ("a", "b")]))
def test_a_state_comes_back_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, first: FormValues, second: FormValues, marked: tuple[str, ...]
) -> None:
    file = tmp_path_factory.mktemp("state") / "session.json"
    history = History().changed(first).changed(second).undone()
    state = SavedState(history, "plan-1", marked, "all", "TPOT")
    save_state(state, file)
    assert load_state(file) == state


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "Session", "format": "9.0"}', '{"kind": "Session", "format": "1.0", "values": 3}']
)
def test_a_file_that_is_no_saved_state_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "session.json"
    file.write_text(text)
    with pytest.raises(AdvisorError) as raised:
        load_state(file)
    assert raised.value.code == "bad-session"
    assert load_state(tmp_path / "none.json") is None


def test_a_state_that_cannot_be_read_is_renamed_and_the_form_starts_empty(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    file.write_text('{"kind": 5, garbage')
    with pytest.raises(AdvisorError, match="line 1 is not JSON"):
        restore_state(file, resume=True)
    state, notice = restore_state(file, resume=False)
    assert (state, file.exists()) == (SavedState(), False)
    assert "The form starts empty" in notice
    assert (tmp_path / "session.unread.json").read_text() == '{"kind": 5, garbage'
    assert restore_state(file, resume=False) == (SavedState(), "")


def test_a_third_mark_takes_that_of_the_oldest() -> None:
    marked: tuple[str, ...] = ()
    for plan in ("a", "b", "c"):
        marked = with_mark(marked, plan)
    assert marked == ("b", "c")
    assert with_mark(marked, "b") == ("c",)
