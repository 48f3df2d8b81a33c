"""Helpers of tests in several folders."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
