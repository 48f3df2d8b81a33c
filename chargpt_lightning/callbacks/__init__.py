"""What a run does besides training: evaluations, checkpoints, stopping, progress."""
