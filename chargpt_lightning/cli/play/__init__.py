"""The subcommand `play`: a local page where a trained network writes, and shows what it expects."""
