"""Measures the package beside its rivals on this machine, Linux or macOS: `python -m benchmarks`."""
