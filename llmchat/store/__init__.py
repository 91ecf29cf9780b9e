"""Remembering: conversations in SQLite."""
