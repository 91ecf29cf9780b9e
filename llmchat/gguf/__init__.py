"""Reading a model file's header: bounds-checked, header only.

`read_header(path)` and `read_ranges(fetch, size, name)` read it, `describe(header)` says what it
means, `shape_of(headers)` what its size depends on (`memory.py` has the formulas), and
`check_loadable(path)` whether llama.cpp may be given the file. Everything that can be wrong is a
ModelFileError.
"""

from llmchat.gguf.check import check_loadable
from llmchat.gguf.describe import Description, describe
from llmchat.gguf.memory import kv_bytes
from llmchat.gguf.reader import BigArray, Header, Tensor, read_header, read_ranges
from llmchat.gguf.shape import Layer, Shape, shape_of

__all__ = [
    "BigArray",
    "Description",
    "Header",
    "Layer",
    "Shape",
    "Tensor",
    "check_loadable",
    "describe",
    "kv_bytes",
    "read_header",
    "read_ranges",
    "shape_of",
]
