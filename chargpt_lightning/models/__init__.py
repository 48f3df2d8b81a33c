"""Neural networks, in plain torch."""
