"""Remembering: conversations in one SQLite file, through apsw. See `database.py`.

Owns the schema, every statement and what happens when a disk lets us down. Refuses to merge
settings, to run turns and to know who asks: it is given values and gives values back. It is
synchronous and belongs to one thread; `core` keeps that thread.
"""
