"""Data to plain text: one function per thing that is shown, for the command line and for the session. Loads nothing heavy."""

from advisor.views.comparison import comparison_dict, comparison_text
from advisor.views.run import run_text

__all__ = ["comparison_dict", "comparison_text", "run_text"]
