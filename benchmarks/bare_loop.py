"""The floor for generation: a bare loop over llama.cpp's C API in one process, greedy, no text.

Runs as `python -m benchmarks.bare_loop MODEL THREADS`, reads one line `N PROMPT` per run from stdin
and prints the seconds from the first decoded row to the last of N tokens. It detokenizes
nothing and sends nothing: what llmchat adds is what the ratio shows.
"""

import ctypes
import sys
import time

import llama_cpp.llama_cpp as llama


class BareLoop:
    """A model and a context with nothing around them."""

    def __init__(self, path: str, n_threads: int, n_ctx: int = 2048, n_batch: int = 512) -> None:
        self._log = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self._log, None)
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(
            path.encode(), llama.llama_model_default_params()
        )
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, n_batch
        params.n_threads = params.n_threads_batch = n_threads
        params.no_perf = True
        self.context = llama.llama_init_from_model(self.model, params)
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.memory = llama.llama_get_memory(self.context)
        self.sampler = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        llama.llama_sampler_chain_add(self.sampler, llama.llama_sampler_init_greedy())
        self.n_batch = n_batch

    def tokens(self, text: str) -> list[int]:
        """Token ids, special tokens read."""
        data = text.encode()
        room = (llama.llama_token * (len(data) + 8))()
        n = llama.llama_tokenize(self.vocab, data, len(data), room, len(room), True, True)
        return list(room[:n])

    def decode(self, tokens: list[int], position: int) -> None:
        """One batch of one sequence, logits for the last row."""
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for row, token in enumerate(tokens):
            batch.token[row], batch.pos[row] = token, position + row
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
            batch.logits[row] = row == len(tokens) - 1
        if llama.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama.llama_batch_free(batch)

    def generate(self, prompt: list[int], n: int) -> float:
        """Seconds for prompt and `n` tokens, greedy, end tokens ignored."""
        llama.llama_memory_clear(self.memory, True)
        begin = time.perf_counter()
        for at in range(0, len(prompt), self.n_batch):
            self.decode(prompt[at : at + self.n_batch], at)
        position = len(prompt)
        one = (llama.llama_token * 1)()
        for _ in range(n):
            one[0] = llama.llama_sampler_sample(self.sampler, self.context, -1)
            batch = llama.llama_batch_get_one(ctypes.cast(one, llama.llama_token_p), 1)
            if llama.llama_decode(self.context, batch) != 0:
                raise RuntimeError("llama_decode failed")
            position += 1
        return time.perf_counter() - begin


def main() -> None:
    """Serve timings over stdin and stdout until the end of input."""
    loop = BareLoop(sys.argv[1], int(sys.argv[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        n, prompt = line.rstrip("\n").split(" ", 1)
        print(loop.generate(loop.tokens(prompt.replace("\\n", "\n")), int(n)), flush=True)


if __name__ == "__main__":
    main()
