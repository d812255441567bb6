"""Measurements: each prints a table; none is a test. See README.md."""
