"""Measures the package beside its rivals on this machine: `python -m benchmarks`."""
