"""How long an operator takes: on a profiled machine, or by catalogue."""
