"""Typed settings: config.toml, the environment, and their merging."""
