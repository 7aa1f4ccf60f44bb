"""Measure providers on pictures with true mattes: data set, metrics, run, report. README.md has the formulas."""
