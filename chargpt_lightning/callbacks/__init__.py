"""What a run does beside training: evaluations, checkpoints, stopping, progress."""
