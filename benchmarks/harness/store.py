"""Results on disk: one file per part and device, written whole after every case, so that an interrupted run can be continued."""

from pathlib import Path

from pydantic import ValidationError

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import write_whole
from benchmarks.harness.record import Environment, Record, Results


class Store:
    """The folder of one device."""

    def __init__(self, folder: Path, environment: Environment) -> None:
        self.folder = folder
        self.environment = environment

    def read(self, part: str) -> Results:
        """All records of a part, whatever their environment."""
        path = self.path(part)
        return read_results(path) if path.exists() else Results(part=part, environments=(), records=())

    def path(self, part: str) -> Path:
        """The file of a part."""
        return self.folder / f"{part}.json"

    def record(self, part: str, case: str) -> Record | None:
        """The case as it was run in this environment; `None` where it was not, or in another."""
        record = next((record for record in self.read(part).records if record.case == case), None)
        return record if record is not None and record.environment == self.environment.id else None

    def put(self, part: str, record: Record) -> None:
        """Write the part with this record in place of an earlier one of its case; environments without records are dropped."""
        stored = self.read(part)
        records = {old.case: old for old in stored.records} | {record.case: record}
        named = {item.environment for item in records.values()}
        older = [environment for environment in stored.environments if environment.id in named - {self.environment.id}]
        results = Results(part=part, environments=(*older, self.environment), records=tuple(records.values()))
        write_whole(self.path(part), results.model_dump_json(indent=None, exclude_defaults=False).replace('{"case"', '\n{"case"') + "\n")


def read_results(path: Path) -> Results:
    """Parse a file of results. Raises `AdvisorError` `results-broken`."""
    try:
        return Results.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise AdvisorError(
            "results-broken",
            f"{path} holds no results: {str(error).splitlines()[0]}",
            exit_code=ExitCode.USAGE,
            file=str(path),
            help=("remove the file and run the benchmark again",),
        ) from error
