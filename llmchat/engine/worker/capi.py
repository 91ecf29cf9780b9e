"""llama.cpp's C API, typed and guarded: batches, contexts, models' facts.

Owns every rule whose breach kills the process: never more rows than n_batch, never a row without
logits, no NULL passed on, pointers tested with `bool()` (a NULL POINTER is falsy, never None).
Refuses policy. One thread may use a Context at a time; only `Context.abort` is for any thread.
"""

import ctypes
import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

Pointer = Any
"""An opaque llama.cpp pointer as ctypes gives it."""
Floats = npt.NDArray[np.float32]

OK: Final = 0
NO_SLOT: Final = 1
"""llama_decode: the KV cache is full; nothing changed."""
ABORTED: Final = 2
"""llama_decode: the abort callback stopped it; ubatches that were done stay in the cache."""
NO_MEMORY: Final = -2
"""llama_decode: a buffer could not be had; ubatches that were done stay in the cache."""

PARTIAL_ONLY: Final = 1
"""State flag: only what cannot be rebuilt from the full cache (sliding window, recurrent)."""


_logits_address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(
    ("llama_get_logits_ith", lib._lib)
)
"""The binding's own makes a pointer object of each address and lets other threads in between; this
gives the number, for every token."""


class CApiError(Exception):
    """llama.cpp refused a call, or a guard refused it before llama.cpp would have aborted."""


class Batch:
    """Rows for one llama_decode: NumPy arrays that llama.cpp reads in place.

    Filling 512 rows takes 2 us this way, 230 us through ctypes' own item access. Single items go
    through memoryviews: they make no NumPy scalars.
    """

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.n = 0
        self._token = np.zeros(n_rows, np.int32)
        self._pos = np.zeros(n_rows, np.int32)
        self._seq = np.zeros(n_rows, np.int32)
        self._n_seq = np.ones(n_rows, np.int32)
        self._output = np.zeros(n_rows, np.int8)
        self._token_at, self._pos_at = self._token.data, self._pos.data
        self._seq_at, self._output_at = self._seq.data, self._output.data
        # seq_id[i] points at _seq[i]: one sequence a row is all a loop with seq_cp needs.
        starts = self._seq.ctypes.data + 4 * np.arange(n_rows, dtype=np.uintp)
        self._seq_pointers = starts.astype(np.uintp)
        self._struct = lib.llama_batch(
            n_tokens=0,
            token=_as(self._token, ctypes.c_int32),
            embd=None,
            pos=_as(self._pos, ctypes.c_int32),
            n_seq_id=_as(self._n_seq, ctypes.c_int32),
            seq_id=ctypes.cast(
                self._seq_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))
            ),
            logits=_as(self._output, ctypes.c_int8),
        )

    def clear(self) -> None:
        """Start anew."""
        self.n = 0

    @property
    def room(self) -> int:
        """Rows that still fit."""
        return self.n_rows - self.n

    def add(self, tokens: list[int], position: int, seq: int, *, output: bool) -> int:
        """Append `tokens` of one sequence from `position`; `output` marks the last for sampling.

        Returns the row of the last token.

        Raises:
            CApiError: more rows than n_batch would abort the process.
        """
        count, start = len(tokens), self.n
        end = start + count
        if not start < end <= self.n_rows:
            raise CApiError(f"{count} rows for a batch with room for {self.room}")
        if count == 1:  # the path of every generated token: no temporary arrays
            self._token_at[start], self._pos_at[start] = tokens[0], position
            self._seq_at[start], self._output_at[start] = seq, output
            self.n = end
            return start
        self._token[start:end] = tokens
        self._pos[start:end] = np.arange(position, position + count)
        self._seq[start:end] = seq
        self._output[start:end] = 0
        self._output[end - 1] = output
        self.n = end
        return end - 1

    def follow(self, row: int, token: int) -> None:
        """Let `row`, of one token, be the next token of the same sequence."""
        self._token_at[row] = token
        self._pos_at[row] += 1

    def output_all(self) -> None:
        """Ask for an output of every row, as embeddings need."""
        self._output[: self.n] = 1

    def has_output(self, row: int) -> bool:
        """Whether `row` may be sampled."""
        return 0 <= row < self.n and self._output_at[row] != 0

    @property
    def struct(self) -> Pointer:
        """What llama_decode takes."""
        self._struct.n_tokens = self.n
        return self._struct


def _as(array: npt.NDArray[Any], kind: Pointer) -> Pointer:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def _native_flag_reader() -> Pointer:
    """`strlen` as an abort callback: true when the flag's first byte is not zero.

    ggml asks about a thousand times a token; a Python callback would take the GIL each time (1 ms
    a token). strlen of a two-byte buffer is the same question in a nanosecond.
    """
    return ctypes.cast(ctypes.CDLL(None).strlen, lib.ggml_abort_callback)


class Context:
    """A llama_context and its memory. Frees itself once with `close`."""

    def __init__(self, pointer: Pointer, n_vocab: int, n_batch: int) -> None:
        if not pointer:
            raise CApiError("no context")
        self.pointer = pointer
        self.n_vocab = n_vocab
        self.batch = Batch(n_batch)
        self._owner = threading.get_ident()
        self._memory = lib.llama_get_memory(pointer)
        self._row = ctypes.c_float * n_vocab
        self._views: dict[int, Floats] = {}
        self._flag = ctypes.create_string_buffer(2)
        try:
            self._abort_callback = _native_flag_reader()
        except (OSError, AttributeError, TypeError):  # no libc by that name: chunks end first
            self._abort_callback = None
        if self._abort_callback is not None:
            lib.llama_set_abort_callback(
                pointer, self._abort_callback, ctypes.cast(self._flag, ctypes.c_void_p)
            )

    @property
    def n_ctx(self) -> int:
        """Cells of the pool."""
        return int(lib.llama_n_ctx(self.pointer))

    @property
    def n_seq_max(self) -> int:
        """Sequences the pool may hold."""
        return int(lib.llama_n_seq_max(self.pointer))

    def abort(self, value: bool = True) -> None:
        """Ask the decode that runs to stop (CPU and Metal only). From any thread."""
        self._flag[0] = b"\x01" if value else b"\x00"

    def decode(self) -> int:
        """Compute the batch. Returns OK, NO_SLOT, ABORTED or a negative error.

        Raises:
            CApiError: no rows, or another thread's context: both would abort the process.
        """
        if self.batch.n == 0:
            raise CApiError("an empty batch")
        if threading.get_ident() != self._owner:
            raise CApiError("a context belongs to the thread that made it")
        return int(lib.llama_decode(self.pointer, self.batch.struct))

    def synchronize(self) -> None:
        """Wait until the results are there (a GPU's decode returns early)."""
        lib.llama_synchronize(self.pointer)

    def check_output(self, row: int) -> int:
        """`row`, if the last batch asked for its logits.

        Raises:
            CApiError: sampling it would abort the process.
        """
        if not self.batch.has_output(row):
            raise CApiError(f"row {row} has no logits")
        return row

    def logits(self, row: int) -> Floats:
        """A writable view of a row's logits, valid until the next decode. Shape (n_vocab,)."""
        address = _logits_address(self.pointer, self.check_output(row))
        if not address:
            raise CApiError(f"row {row} has no logits")
        view = self._views.get(address)
        if view is None:  # the buffer moves only when more rows are asked for than ever before
            if len(self._views) > 2 * self.batch.n_rows:
                self._views.clear()
            view = np.ctypeslib.as_array(self._row.from_address(address))
            self._views[address] = view
        return view

    def seq_rm(self, seq: int, start: int = -1, end: int = -1) -> bool:
        """Forget positions [start, end) of a sequence. False: this memory cannot."""
        return bool(lib.llama_memory_seq_rm(self._memory, seq, start, end))

    def seq_cp(self, source: int, target: int, end: int) -> None:
        """Share positions [0, end) of `source` with `target`: metadata only in a unified pool."""
        if not 0 <= target < self.n_seq_max:
            raise CApiError(f"no sequence {target}")
        lib.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def pos_min(self, seq: int) -> int:
        """The first position that is still there; -1 when the sequence is empty."""
        return int(lib.llama_memory_seq_pos_min(self._memory, seq))

    def pos_max(self, seq: int) -> int:
        """The last position; -1 when the sequence is empty."""
        return int(lib.llama_memory_seq_pos_max(self._memory, seq))

    @property
    def can_shift(self) -> bool:
        """Whether positions can be moved; asked before every `seq_add`."""
        return bool(lib.llama_memory_can_shift(self._memory))

    def seq_add(self, seq: int, start: int, end: int, shift: int) -> None:
        """Move positions [start, end) by `shift`.

        Raises:
            CApiError: this memory cannot; the next decode would abort the process.
        """
        if not self.can_shift:
            raise CApiError("positions of this memory cannot be moved")
        lib.llama_memory_seq_add(self._memory, seq, start, end, shift)

    def clear_memory(self) -> None:
        """Forget every sequence."""
        lib.llama_memory_clear(self._memory, True)

    def state_size(self, seq: int) -> int:
        """Bytes of a sequence's state, without copying it."""
        return int(lib.llama_state_seq_get_size_ext(self.pointer, seq, 0))

    def state(self, seq: int, flags: int = 0) -> npt.NDArray[np.uint8] | None:
        """A sequence's state as bytes, bit-exact; None when llama.cpp gives none.

        Nor is there one without memory for it: a copy is a convenience that must end no reply.
        """
        size = int(lib.llama_state_seq_get_size_ext(self.pointer, seq, flags))
        if size == 0:
            return None
        try:
            data = np.empty(size, np.uint8)
        except MemoryError:
            return None
        got = lib.llama_state_seq_get_data_ext(
            self.pointer, _as(data, ctypes.c_uint8), size, seq, flags
        )
        return data if got == size else None

    def restore(self, seq: int, data: npt.NDArray[np.uint8], flags: int = 0) -> bool:
        """Put a state back into a sequence. False: it does not fit this context."""
        got = lib.llama_state_seq_set_data_ext(
            self.pointer, _as(data, ctypes.c_uint8), data.size, seq, flags
        )
        return bool(got == data.size)

    def set_threads(self, n_threads: int, n_threads_batch: int) -> None:
        """Threads for single rows and for chunks."""
        lib.llama_set_n_threads(self.pointer, n_threads, n_threads_batch)

    def close(self) -> None:
        """Free it. Contexts go before adapters, adapters before the model."""
        if self.pointer:
            lib.llama_free(self.pointer)
            self.pointer = None


def model_text(model: Pointer, key: str) -> str | None:
    """A metadata value of the model as text, None if it has none."""
    size = lib.llama_model_meta_val_str(model, key.encode(), None, 0)
    if size < 0:
        return None
    buffer = ctypes.create_string_buffer(size + 1)
    lib.llama_model_meta_val_str(model, key.encode(), buffer, size + 1)
    return buffer.value.decode("utf-8", "replace")


def model_description(model: Pointer) -> str:
    """llama.cpp's own words, e.g. `llama 135M Q4_1`."""
    buffer = ctypes.create_string_buffer(256)
    lib.llama_model_desc(model, buffer, 256)
    return buffer.value.decode("utf-8", "replace")
