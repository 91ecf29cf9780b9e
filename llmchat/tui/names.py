"""How a model is called where there is little room."""

from llmchat.text.cleaning import clean_line


def short_model(name: str, limit: int = 40) -> str:
    """The part of a model's name that people say: no owner, no folder, no `.gguf`."""
    return clean_line(name.rstrip("/").rpartition("/")[2].removesuffix(".gguf"), limit)
