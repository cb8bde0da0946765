"""Predicts published measurements and reports the errors."""
