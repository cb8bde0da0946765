"""A planner without the extra `run` says so before it starts anything."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
sys.modules['tokenizers'] = None  # as if it were not installed
from advisor.cli.main import main
sys.exit(main(['demo', '--out', sys.argv[1]]))
"""


def test_the_demo_without_its_packages_names_the_extra(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "error[runtime-not-installed]: measuring needs tokenizers" in done.stderr
    assert "pip install 'advisor[run]'" in done.stderr
    assert not list(tmp_path.iterdir())
