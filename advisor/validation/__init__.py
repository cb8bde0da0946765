"""Predicts published measurements and reports the errors of the predictions."""
