"""The one error type of the project and the exit codes that it carries."""

from enum import IntEnum, StrEnum


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


class ErrorAction(StrEnum):
    """What a caller can do with the field at fault."""

    DROP = "drop"
    """Leave the field out."""
    GIVE = "give"
    """Give the field a value: it has none."""
    CHOOSE = "choose"
    """Give the field one of the values that `help` lists or says how to list."""
    KEEP_ONE = "keep-one"
    """Keep one of the fields that exclude each other, such as this one."""
    CORRECT = "correct"
    """Write the value in the form in which it is read."""
    LOWER = "lower"
    """Give a smaller number."""
    RAISE = "raise"
    """Give a larger number."""


class AdvisorError(Exception):
    """A failure that a user can act on. Only front ends print it.

    `code` is a stable word such as `model-not-found`; `message` one lower-case sentence without a full stop; `notes` are
    facts; `help` are lines to type next; `file` and `line` say where a file is wrong.
    `field` names the field of `PlanQuestion` or `EstimateQuestion` at fault (`tpot_ms`, `context_tokens`), or the option of a
    command that asks no such question (`out`); `action` says what can be done with it, and `value` is the nearest number that
    is accepted, where it is known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        exit_code: ExitCode = ExitCode.FAILED,
        notes: tuple[str, ...] = (),
        help: tuple[str, ...] = (),
        field: str | None = None,
        action: ErrorAction | None = None,
        value: float | None = None,
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.exit_code = exit_code
        self.notes = notes
        self.help = help
        self.field = field
        self.action = action
        self.value = value
        self.file = file
        self.line = line

    def as_dict(self) -> dict[str, object]:
        """The JSON form of the error, as printed by `--error-format json`."""
        return {
            "code": self.code,
            "message": self.message,
            "notes": list(self.notes),
            "help": list(self.help),
            "field": self.field,
            "action": self.action,
            "value": self.value,
            "file": self.file,
            "line": self.line,
            "exit_code": int(self.exit_code),
        }
