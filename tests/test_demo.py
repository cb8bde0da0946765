from pathlib import Path

import pytest

from advisor.demo import run_demo
from advisor.profiles.errors import AdvisorError


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    said: list[object] = []
    with pytest.raises(AdvisorError) as caught:
        run_demo(tmp_path / "file" / "out", said.append)
    assert (caught.value.code, said) == ("not-writable", [])
