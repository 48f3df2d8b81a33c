"""The ground floor: imports nothing of the package above it."""
