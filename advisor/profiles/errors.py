"""The one error type of the project and the exit codes that it carries."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line. They are an interface: numbers never change meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_PLAN = 3
    MISSING = 4
    LIMIT_MISSED = 5
    STALE = 6
    DIED = 7
    TIMED_OUT = 124
    INTERRUPTED = 130
    TERMINATED = 143


class AdvisorError(Exception):
    """A failure that a person can act on.

    `code` is a stable word such as `model-not-found`; `message` one lower-case sentence without a full stop; `notes` are
    facts; `help` are lines to type next. Front ends render it; nothing else prints.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        exit_code: ExitCode = ExitCode.FAILED,
        notes: tuple[str, ...] = (),
        help: tuple[str, ...] = (),
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.exit_code = exit_code
        self.notes = notes
        self.help = help
        self.file = file
        self.line = line

    def as_dict(self) -> dict[str, object]:
        """The JSON form of the error, as printed by `--error-format json`."""
        return {
            "code": self.code,
            "message": self.message,
            "notes": list(self.notes),
            "help": list(self.help),
            "file": self.file,
            "line": self.line,
            "exit_code": int(self.exit_code),
        }
