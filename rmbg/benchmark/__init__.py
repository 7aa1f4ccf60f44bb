"""Benchmark of providers on data sets with true mattes. The formulas are in README.md."""
