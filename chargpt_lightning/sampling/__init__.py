"""Draws characters from logits, writes text with a network, and rates texts."""
