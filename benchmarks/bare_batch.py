"""The floor for several sequences: a bare batched loop over llama.cpp's C API in one process.

Runs as `python -m benchmarks.bare_batch MODEL THREADS POOL N_SEQ_MAX`, reads a line
`SEQUENCES PROMPT TOKENS` per run from stdin: so many sequences, each with a prompt of its own of so
many random tokens, then so many tokens each, greedy. It prints the seconds from the first token to
the last. Same pool, batch, threads and KV type as the worker's context; no text, nothing sent.
"""

import random
import sys
import time

import llama_cpp.llama_cpp as llama

N_BATCH = 512


class BareBatch:
    """A model and a context with a unified pool, and nothing around them."""

    def __init__(self, path: str, n_threads: int, pool: int, n_seq_max: int) -> None:
        self._log = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self._log, None)
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(
            path.encode(), llama.llama_model_default_params()
        )
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = pool, N_BATCH, N_BATCH
        params.n_seq_max, params.kv_unified = n_seq_max, True
        params.n_outputs_max = min(n_seq_max, N_BATCH)
        params.n_threads = params.n_threads_batch = n_threads
        params.swa_full = False
        params.no_perf = True
        self.context = llama.llama_init_from_model(self.model, params)
        self.memory = llama.llama_get_memory(self.context)
        self._known = 0
        self.n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.batch = llama.llama_batch_init(N_BATCH, 0, 1)
        self.sampler = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        llama.llama_sampler_chain_add(self.sampler, llama.llama_sampler_init_greedy())

    def _row(self, row: int, token: int, position: int, sequence: int, output: bool) -> None:
        batch = self.batch
        batch.token[row], batch.pos[row] = token, position
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
        batch.logits[row] = output

    def _decode(self, rows: int) -> None:
        self.batch.n_tokens = rows
        if llama.llama_decode(self.context, self.batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama.llama_synchronize(self.context)

    def read(self, sequence: int, prompt: list[int]) -> int:
        """A prompt in full batches; the first token."""
        for start in range(0, len(prompt), N_BATCH):
            part = prompt[start : start + N_BATCH]
            for row, token in enumerate(part):
                last = start + row == len(prompt) - 1
                self._row(row, token, start + row, sequence, last)
            self._decode(len(part))
        return int(llama.llama_sampler_sample(self.sampler, self.context, -1))

    def run(self, sequences: int, prompt: int, tokens: int) -> float:
        """Seconds from the first token of every sequence to its last.

        A single sequence's prompt stays: asked again, only its last token is computed anew.
        """
        low, high = self.n_vocab // 8, self.n_vocab - self.n_vocab // 8
        chance = random.Random(sequences)
        if sequences == 1 and prompt == self._known:
            llama.llama_memory_seq_rm(self.memory, 0, prompt - 1, -1)
            self._row(0, low, prompt - 1, 0, True)
            self._decode(1)
            current = [int(llama.llama_sampler_sample(self.sampler, self.context, -1))]
        else:
            llama.llama_memory_clear(self.memory, True)
            current = [
                self.read(sequence, [chance.randrange(low, high) for _ in range(prompt)])
                for sequence in range(sequences)
            ]
        self._known = prompt if sequences == 1 else 0
        begin = time.perf_counter()
        for position in range(prompt, prompt + tokens - 1):
            for sequence, token in enumerate(current):
                self._row(sequence, token, position, sequence, True)
            self._decode(sequences)
            current = [
                int(llama.llama_sampler_sample(self.sampler, self.context, row))
                for row in range(sequences)
            ]
        return time.perf_counter() - begin


def main() -> None:
    """Serve timings over stdin and stdout until the end of input."""
    path, *numbers = sys.argv[1:]
    loop = BareBatch(path, *map(int, numbers))
    loop.run(1, 8, 4)
    print("ready", flush=True)
    for line in sys.stdin:
        print(loop.run(*map(int, line.split())), flush=True)


if __name__ == "__main__":
    main()
