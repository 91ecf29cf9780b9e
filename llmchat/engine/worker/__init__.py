"""The worker process: the only folder that imports llama_cpp."""
