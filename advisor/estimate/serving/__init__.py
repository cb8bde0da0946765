"""Requests over time: steady state and simulation."""
