"""Data to plain text: one function per thing that is shown, for the command line and for the session. Loads nothing heavy."""

from advisor.views.advice import advice_text
from advisor.views.comparison import comparison_dict, comparison_text
from advisor.views.hardware import hardware_table_text, hardware_text
from advisor.views.metrics import metrics_text
from advisor.views.models import model_text, models_text
from advisor.views.run import run_text

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
