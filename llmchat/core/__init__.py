"""What the program does, without a face: turns, conversations, models, downloads, settings."""
