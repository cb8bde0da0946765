import io

from advisor.backends.processes.events import Failed, Log, Progress, Started
from advisor.cli.progress import ProgressLines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps() -> list[Progress]:
    return [Progress(step=step, done=done, total=2, left_s=3.0) for step in ("load", "measure") for done in (1, 2)]


def test_without_a_terminal_each_step_is_a_line() -> None:
    stream = io.StringIO()
    with ProgressLines(stream=stream) as say:
        for event in steps():
            say(event)
    assert stream.getvalue() == "load\nmeasure\n"


def test_on_a_terminal_a_single_line_changes_and_is_cleared_at_the_end() -> None:
    stream = Terminal()
    with ProgressLines(stream=stream) as say:
        for event in steps():
            say(event)
        say("a sentence")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "measure  2/2  about 3 s left\r\x1b[2Ka sentence\n" in text
    assert text.endswith("a sentence\n")


def test_the_line_is_cleared_when_the_work_fails() -> None:
    stream = Terminal()
    try:
        with ProgressLines(stream=stream) as say:
            say(steps()[0])
            raise ValueError
    except ValueError:
        pass
    assert stream.getvalue().endswith("\r\x1b[2K")


def test_sentences_and_failures_are_said_and_data_is_not() -> None:
    stream = io.StringIO()
    say = ProgressLines(stream=stream)
    for event in ("plain", Log(text="logged"), Failed(code="crashed", message="it died"), Started(pid=1, threads=2)):
        say(event)
    assert stream.getvalue() == "plain\nlogged\nfailed: it died\n"


def test_quiet_is_silent() -> None:
    stream = io.StringIO()
    say = ProgressLines(stream=stream, quiet=True)
    say("plain")
    say(steps()[0])
    assert stream.getvalue() == ""
