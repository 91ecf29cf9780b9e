"""Reading a model file's header: bounds-checked, header only.

`read_header(path)` and `read_ranges(fetch, size, name)` read it, `describe(header)` says what it
means, `kv_bytes(header, n_ctx, type_k, type_v)` what a context costs, and `check_loadable(path)`
whether llama.cpp may be given the file. Everything that can be wrong is a ModelFileError.
"""

from llmchat.gguf.check import check_loadable
from llmchat.gguf.describe import Description, describe
from llmchat.gguf.memory import kv_bytes
from llmchat.gguf.reader import BigArray, Header, Tensor, read_header, read_ranges

__all__ = [
    "BigArray",
    "Description",
    "Header",
    "Tensor",
    "check_loadable",
    "describe",
    "kv_bytes",
    "read_header",
    "read_ranges",
]
