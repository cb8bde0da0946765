import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from advisor.cli.main import COMMANDS, cli
from advisor.help.error_topics import ERROR_PAGES
from advisor.profiles.errors import AdvisorError, ExitCode

PACKAGE = Path(__file__).parents[2] / "advisor"
HEAVY = ("torch", "triton", "transformers", "textual", "rich", "tokenizers", "safetensors")


def subprocess_advisor(*words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    # Without `env` a child would get the COLUMNS that readline, which pytest imports, exports behind `os.environ`.
    options.setdefault("env", dict(os.environ))
    return subprocess.run([sys.executable, "-m", "advisor", *words], capture_output=True, text=True, timeout=60, **options)


def test_alone_it_prints_help_on_stderr_and_is_a_usage_error(advisor: Callable[..., Any]) -> None:
    ended = advisor()
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert all(name in ended.err for name in COMMANDS)


@pytest.mark.parametrize(("closed", "code"), [(">&-", ExitCode.OK), ("2>&-", ExitCode.OK), (">&- 2>&-", ExitCode.OK)])
def test_a_stream_that_the_shell_closed_is_not_an_error(tmp_path: Path, closed: str, code: ExitCode) -> None:
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    line = f'"{sys.executable}" -m advisor models demo {closed}'
    assert subprocess.run(["sh", "-c", line], env=environment, capture_output=True, timeout=60).returncode == code
    assert not list(tmp_path.rglob("*.log"))


def test_help_is_on_stdout_with_exit_code_0(advisor: Callable[..., Any]) -> None:
    ended = advisor("--help")
    assert (ended.code, ended.err) == (ExitCode.OK, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_takes_json(advisor: Callable[..., Any], name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        assert leaf.help, leaf.name
        assert any("--json" in param.opts for param in leaf.params), leaf.name
    ended = advisor(name, "--help")
    assert ended.code == 0
    assert name in ended.out


def test_the_short_line_of_a_command_is_the_same_in_both_helps() -> None:
    for name, line in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.short_help == line


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from advisor.cli.main import main; main(['--help']); print([n for n in sys.modules], file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(ast.literal_eval(ended.stderr))
    assert not loaded & {*HEAVY, "pydantic", "yaml", "numpy", "advisor.quantities.limits"}


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "meta-llama/Meta-Llama-3.1-8B", "--hardware", "h100-sxm"),
        ("estimate", "meta-llama/Meta-Llama-3.1-8B", "--hardware", "h100-sxm", "--prompt-tokens", "128", "--output-tokens", "16"),
        ("hardware", "list"),
        ("explain", "plan-stale"),
        ("doctor",),
    ],
    ids=lambda words: words[0],
)
def test_commands_load_nothing_heavy(words: tuple[str, ...]) -> None:
    run = f"from advisor.cli.main import main; code = main({list(words)!r})"
    code = f"import sys; {run}; print(code, [n for n in sys.modules], file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    exit_code, loaded = ended.stderr.strip().splitlines()[-1].split(" ", 1)
    assert exit_code == "0", ended.stderr
    assert not set(ast.literal_eval(loaded)) & set(HEAVY)


@pytest.mark.parametrize(
    ("words", "says", "helps"),
    [
        (("plam",), "no such command `plam`", "did you mean `advisor plan`?"),
        (("plan", "--ttft", "3"), "no such option `--ttft`", "did you mean `--ttft-ms`?"),
        (("plan", "--prefer", "speed", "m"), "`speed` is not one of", "advisor plan --help"),
        (("plan", "a", "b"), "unexpected extra argument", "advisor plan --help"),
        (("estimate", "m"), "missing option", "advisor estimate --help"),
        (("compare",), "missing argument", "advisor compare --help"),
        (("schema", "cake"), "`cake` is not one of", "advisor schema --help"),
        (("--nonsense",), "no such option", "advisor --help"),
    ],
    ids=str,
)
def test_wrong_usage_says_what_and_what_to_type(advisor: Callable[..., Any], words: tuple[str, ...], says: str, helps: str) -> None:
    ended = advisor(*words)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    first, *rest = ended.err.splitlines()
    assert first.startswith("error[usage]: ")
    assert says in first
    assert not first.endswith(".")
    assert any(helps in line and line.startswith("  help: ") for line in rest), ended.err


@pytest.mark.parametrize("where", [("--error-format", "json", "plam"), ("plan", "--error-format=json", "--nonsense")])
def test_errors_can_be_json(advisor: Callable[..., Any], where: tuple[str, ...]) -> None:
    error = advisor(*where).error
    assert set(error) == {"code", "message", "notes", "help", "field", "action", "value", "file", "line", "exit_code"}
    assert (error["code"], error["exit_code"]) == ("usage", 2)


def test_errors_are_json_when_the_environment_says_so(advisor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_ERROR_FORMAT", "json")
    assert advisor("plam").error["code"] == "usage"


def failing_with(error: BaseException) -> Callable[..., int]:
    """A terminal interface that raises `error` when it is opened, as any command might."""

    def fail(**options: object) -> int:
        raise error

    return fail


def test_an_internal_error_is_logged_and_no_trace_is_shown(advisor: Callable[..., Any], own_folders: Path) -> None:
    ended = advisor(open_interface=failing_with(ZeroDivisionError("seven by\nnothing")))
    assert (ended.code, ended.out) == (ExitCode.FAILED, "")
    assert ended.err.startswith("error[internal]: a fault in advisor itself: ZeroDivisionError: seven by nothing\n")
    assert "Traceback" not in ended.err
    (log,) = (own_folders / "state" / "advisor" / "logs").iterdir()
    assert str(log) in ended.err
    assert "ZeroDivisionError: seven by" in log.read_text(encoding="utf-8")


def test_an_internal_error_that_cannot_be_logged_is_still_reported(
    advisor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    ended = advisor(open_interface=failing_with(ZeroDivisionError("seven")))
    assert ended.code == ExitCode.FAILED
    assert "could not be saved" in ended.err
    assert "ZeroDivisionError: seven" in ended.err


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted"),
        (MemoryError(), ExitCode.DIED, "out-of-memory"),
        (OSError(28, "No space left on device", "x.yaml"), ExitCode.FAILED, "disk-full"),
        (AdvisorError("profile-not-found", "gone", exit_code=ExitCode.MISSING), ExitCode.MISSING, "profile-not-found"),
        (AdvisorError("crashed", "died", exit_code=ExitCode.DIED), ExitCode.DIED, "crashed"),
        (AdvisorError("timed-out", "slow", exit_code=ExitCode.TIMED_OUT), ExitCode.TIMED_OUT, "timed-out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_failures_have_their_exit_codes(
    advisor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: ExitCode, word: str
) -> None:
    ended = advisor(open_interface=failing_with(error))
    assert ended.code == code
    assert f"error[{word}]" in ended.err


def waiting_child() -> "subprocess.Popen[str]":
    """A command line whose interface prints that it has begun and then waits."""
    code = (
        "import time, sys\n"
        "def wait(**options):\n    print('begun', flush=True)\n"
        "    try:\n        time.sleep(30)\n    finally:\n        print('cleaned up', flush=True)\n"
        "from advisor.cli.main import main\nsys.exit(main([], open_interface=wait))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)])
def test_signals_let_it_clean_up_and_have_exit_codes(sent: signal.Signals, code: ExitCode) -> None:
    child = waiting_child()
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    time.sleep(0.05)
    child.send_signal(sent)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (code, "cleaned up\n")
    assert err.strip().startswith("error[")
    assert len(err.strip().splitlines()) == 1


def test_a_closed_pipe_is_not_an_error() -> None:
    child = subprocess.Popen([sys.executable, "-m", "advisor", "schema", "plan"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    err = child.stderr.read()
    assert child.wait(timeout=20) == 0
    assert err == b""


def test_output_is_the_same_on_a_terminal_and_in_a_pipe_of_the_same_width() -> None:
    import pty

    piped = subprocess_advisor("hardware", "show", "h100-sxm").stdout
    ours, theirs = pty.openpty()
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    child = subprocess.Popen([sys.executable, "-m", "advisor", "hardware", "show", "h100-sxm"], stdout=theirs, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux ends a terminal so
            break
        if not part:
            break
        shown += part
    assert child.wait(timeout=20) == 0
    assert shown.decode().replace("\r\n", "\n") == piped


def test_output_has_colour_only_by_option(advisor: Callable[..., Any]) -> None:
    plain = advisor("hardware", "show", "h100-sxm").out
    coloured = advisor("hardware", "show", "h100-sxm", "--color", "always").out
    assert "\x1b[" not in plain
    assert "\x1b[" in coloured
    assert advisor("hardware", "show", "h100-sxm", "--ascii").out.isascii()


def codes_in_source() -> dict[str, set[str]]:
    """Every error code that the package's own sources raise or report, with the files it stands in."""
    files_by_code: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        makers = {"AdvisorError", "Failed"} | {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "code" and "AdvisorError" in ast.dump(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers:
                given = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "code")]
                for part in given:
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        files_by_code.setdefault(part.value, set()).add(path.name)
    return files_by_code


def test_every_error_code_has_a_page_and_every_page_a_code() -> None:
    used = codes_in_source()
    assert len(used) > 30
    missing = {code: files for code, files in used.items() if code not in ERROR_PAGES}
    assert not missing
    assert not set(ERROR_PAGES) - set(used)


@pytest.mark.parametrize("code", sorted(ERROR_PAGES))
def test_explain_knows_every_error_code(advisor: Callable[..., Any], code: str) -> None:
    ended = advisor("explain", code, "--json")
    assert ended.code == 0
    assert ended.data["kind"] == "error code"
    assert ended.data["parts"][0]["text"].endswith(".")


def test_json_has_its_format_version(advisor: Callable[..., Any]) -> None:
    for words in (("hardware",), ("models",), ("profile",), ("doctor",), ("explain",), ("hardware", "detect")):
        data = json.loads(advisor(*words, "--json").out)
        assert data["format"] == "1.0", words


def test_yaml_says_the_same_as_json(advisor: Callable[..., Any]) -> None:
    import yaml

    assert yaml.safe_load(advisor("hardware", "h100-sxm", "-f", "yaml").out) == advisor("hardware", "h100-sxm", "--json").data
