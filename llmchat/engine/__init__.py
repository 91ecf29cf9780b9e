"""Running a model: one worker process per loaded model, and the clients that talk to it.

Nothing outside `engine/worker/` imports llama_cpp.
"""
