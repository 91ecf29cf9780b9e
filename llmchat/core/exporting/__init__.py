"""Conversations as files: what we write and what we read. Pure: values in, text out, and back.

`formats.py` names what can be written; `reading.py` finds out what a file is and has it read.
Refuses the store (`store/whole.py`), disks and faces.
"""
