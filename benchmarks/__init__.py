"""Compares the package with nanoGPT and Hugging Face on this machine (Linux or macOS): `python -m benchmarks`."""
