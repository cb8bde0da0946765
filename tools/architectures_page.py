"""Write docs/architectures.md from the findings of `tools/architecture_comparison.py`; `--check` only says whether it is current."""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from advisor.profiles.files import write_whole
from tools.architecture_comparison import LONGEST, Finding, read_findings
from tools.markdown import table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architectures.md"
COMPARED = ("right", "refused", "wrong")
INTRODUCTION = """# Architectures

Whether the runtime gives a model's own tokens, for every decoder architecture of transformers {version}. Written by
`tools/architectures_page.py` from `benchmarks/results/architectures.csv`; `make architectures` compares again.

Each architecture is built tiny, with random weights, a window of seven tokens where it has one, and one layer of each of its kinds; then
again with each kind of rotary embedding (linear, llama3, YaRN, LongRoPE, dynamic NTK) and with each of its flags the other way. Four
requests of mixed lengths, up to {longest} tokens, are answered greedily by transformers' `generate`, eager and one at a time, and by the
runtime in three deployments: plain, paged with continuous batching and chunked prefill, and with drafts by prompt lookup.

- **right**: every token of every request is the model's own, in all three.
- **refused**: the runtime says in a sentence why it would not give the model's own tokens, and serves nothing. Before its first use a model
  is compared with its own code outside of the runtime; the verdict is stored by the digest of its config.
- **wrong**: another token, or a failure without a sentence. There must be none.
- **not compared**: transformers does not build the variant, or its own `generate` fails.

"""


def page(findings: Sequence[Finding]) -> str:
    """The page: counts, then a row for each architecture."""
    rows = [_row(list(group)) for _, group in groupby(findings, lambda finding: finding.architecture)]
    introduction = INTRODUCTION.format(version=pinned_version(), longest=LONGEST)
    heads = ("`model_type`", "class", "as it comes", "variants", "why")
    return introduction + _counts(findings) + "\n\n" + table(heads, rows) + "\n"


def pinned_version() -> str:
    """The version of transformers in constraints.txt."""
    pinned = re.search(r"^transformers==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None, "constraints.txt pins transformers"
    return pinned[1]


def _counts(findings: Sequence[Finding]) -> str:
    plain = Counter(_verdict(finding) for finding in findings if finding.variant in ("plain", "all"))
    every = Counter(_verdict(finding) for finding in findings)
    columns = (*COMPARED, "not compared")
    rows = [(name, *(str(counts[column]) for column in columns)) for name, counts in (("as they come", plain), ("all variants", every))]
    return table(("", *columns), rows)


def _row(findings: Sequence[Finding]) -> tuple[str, ...]:
    first, others = findings[0], findings[1:]
    counts = Counter(map(_verdict, others))
    outcomes = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (*COMPARED, "not compared") if counts[verdict])
    return f"`{first.architecture}`", first.model_class, _verdict(first), outcomes, "; ".join(_reasons(findings))


def _reasons(findings: Sequence[Finding]) -> list[str]:
    """Why the first was not right, and the distinct reasons of others that were refused or wrong."""
    shown = [finding for finding in findings if finding.verdict in ("refused", "wrong") or finding is findings[0]]
    reasons = [_without_figures(finding.detail) for finding in shown if finding.verdict != "right" and finding.detail]
    return list(dict.fromkeys(reasons))


def _without_figures(detail: str) -> str:
    detail = re.sub(r"sequences of up to .* after which its rotary frequencies change", "longer than its rotary frequencies hold", detail)
    return re.sub(r" \(by [^)]*norm\)", "", detail)


def _verdict(finding: Finding) -> str:
    return finding.verdict if finding.verdict in COMPARED else "not compared"


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    current = page(read_findings())
    if parser.parse_args().check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == current:
            return 0
        print("docs/architectures.md is not current: python -m tools.architectures_page", file=sys.stderr)
        return 1
    write_whole(PAGE, current)
    return 0


if __name__ == "__main__":
    sys.exit(main())
