"""Data to plain text: one function per thing that is shown, for the command line and for the session. Loads nothing heavy."""

from advisor.rendering.text.advice import advice_text
from advisor.rendering.text.comparison import comparison_dict, comparison_text
from advisor.rendering.text.hardware import hardware_table_text, hardware_text
from advisor.rendering.text.metrics import metrics_text
from advisor.rendering.text.models import model_text, models_text
from advisor.rendering.text.run import run_text

__all__ = [
    "advice_text",
    "comparison_dict",
    "comparison_text",
    "hardware_table_text",
    "hardware_text",
    "metrics_text",
    "model_text",
    "models_text",
    "run_text",
]
