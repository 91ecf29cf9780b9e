"""The process around a backend: socket, lock, connections, keep-alive; `main.main` is its entry.

Refuses llama.cpp: what computes is a `Backend` (`worker/loop.py`, or `scripted/backend.py`).
"""
