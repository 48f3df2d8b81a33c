"""Reads texts, encodes them, and cuts them into windows of ids."""
