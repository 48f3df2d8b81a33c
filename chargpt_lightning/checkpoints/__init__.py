"""Checkpoint files: reads them safely, writes them atomically, converts other programs' formats."""
