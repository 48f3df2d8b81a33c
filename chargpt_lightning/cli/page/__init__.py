"""The page of `play`: a trained network writes there, and shows what it expects."""
