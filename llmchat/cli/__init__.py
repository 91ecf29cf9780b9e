"""A face: commands, pipes and JSON."""
