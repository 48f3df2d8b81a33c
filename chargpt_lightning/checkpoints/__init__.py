"""Checkpoints: read safely, written atomically, converted from and to other programs' formats."""
