"""The client's side: finding, starting, sharing and losing workers (`engine.LocalEngine`).

Refuses llama.cpp, and what happens inside a worker process (`shell/`, `worker/`).
"""
