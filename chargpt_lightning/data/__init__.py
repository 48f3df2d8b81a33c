"""From texts to windows of ids."""
