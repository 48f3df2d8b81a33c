"""The networks; torch only."""
