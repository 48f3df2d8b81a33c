"""Modules that every other part of the package may import, and that import nothing else from the package."""
