"""Programs that sections run as separate processes: each measures one thing and prints it as JSON."""
