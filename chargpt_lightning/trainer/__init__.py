"""What a run adds to Lightning's Trainer."""
