"""Settings that a person keeps: `config.toml` and the environment.

Owns what may be set, reading it forgivingly and writing it without losing comments. Refuses to
merge layers (core/settings.py does) and to find files (paths.py does).
"""
