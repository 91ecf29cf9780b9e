"""Many texts in one step: sequences packed into a batch, vectors out.

Owns the jobs that run and whose texts share a step: each job in turn gives a text until the batch
is full, so that ten thousand texts of one client do not stop the single one of another. Refuses
reading texts (`texts.py`) and the queue (`inbox.py`).
"""

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib

from llmchat.engine.backend import Emit
from llmchat.engine.protocol import Embed, Embedded, Failed, PromptProgress, Rerank, Reranked
from llmchat.engine.worker.capi import ABORTED, NO_MEMORY, OK, Context
from llmchat.text import say

Vector = npt.NDArray[np.float32]
SMALLEST: Final = 1e-12
"""A vector of zeros stays one, as in llama.cpp's `common_embd_normalize`."""


class Job:
    """One Embed or Rerank request."""

    def __init__(self, work: Embed | Rerank, emit: Emit, rows: list[list[int]]) -> None:
        self.work = work
        self.emit = emit
        self.rows = rows
        self.given = 0
        """Rows that a batch has taken."""
        self.found: list[Vector] = []
        self.cancelled = False

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(map(len, self.rows))

    def finish(self) -> None:
        """Answer the request."""
        if isinstance(self.work, Rerank):
            scores = tuple(float(vector[0]) for vector in self.found)
            self.emit(Reranked(id=self.work.id, scores=scores, tokens=self.tokens))
            return
        normalize = self.work.normalize
        vectors = tuple(
            (unit(vector) if normalize else vector).astype("<f4").tobytes() for vector in self.found
        )
        self.emit(Embedded(id=self.work.id, vectors=vectors, tokens=self.tokens))


def unit(vector: Vector) -> Vector:
    """The vector at length 1 (L2), llama.cpp's default."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return vector if length < SMALLEST else (vector / length).astype(np.float32)


class Vectors:
    """Every Embed and Rerank of a worker. On the inference thread, except `cancel`."""

    def __init__(self, context: Context, *, width: int, packed: int) -> None:
        """`width`: numbers a sequence gets; `packed`: tokens that texts share a decode up to."""
        self._context = context
        self._packed = packed
        self._width = width
        self._jobs: deque[Job] = deque()
        self._alone: Job | None = None
        self.steps = 0

    @property
    def busy(self) -> bool:
        """Something is left to do."""
        return bool(self._jobs)

    def add(self, job: Job) -> None:
        """Put a job in line."""
        self._jobs.append(job)

    def cancel(self, job: Job) -> None:
        """End a job soon; from any thread."""
        job.cancelled = True
        if self._alone is job:
            self._context.abort()

    def turn(self) -> None:
        """One step."""
        self.steps += 1
        for job in [job for job in self._jobs if job.cancelled]:
            self._drop(job, "cancelled", say("engine.cancelled"))
        taken, rows = self._choose()
        if not taken:
            return
        jobs = list({id(job): job for job in taken}.values())
        self._context.abort(False)
        self._alone = jobs[0] if len(jobs) == 1 else None
        if self._alone is not None and self._alone.cancelled:
            return
        code = self._compute(rows)
        self._alone = None
        if code == OK:
            self._take(taken)
        for job in jobs:
            if code not in (OK, ABORTED):
                key = "engine.no_memory" if code == NO_MEMORY else "engine.decode_failed"
                self._drop(job, "decode_failed", say(key, code=code))
            elif code == ABORTED:
                job.given = len(job.found)
            elif len(job.found) == len(job.rows):
                self._jobs.remove(job)
                job.finish()
        self._context.clear_memory()

    def _choose(self) -> tuple[list[Job], list[list[int]]]:
        """Rows of the next step, and the job of each."""
        taken: list[Job] = []
        rows: list[list[int]] = []
        size = 0
        line = deque(self._jobs)
        while line and len(taken) < self._context.n_seq_max:
            job = line.popleft()
            row = job.rows[job.given]
            size += len(row)
            if taken and size > self._packed:
                break
            job.given += 1
            taken.append(job)
            rows.append(row)
            if job.given < len(job.rows):
                line.append(job)
        if len(self._jobs) > 1:
            self._jobs.rotate(-1)  # who comes first when not all fit
        return taken, rows

    def _compute(self, rows: list[list[int]]) -> int:
        """One decode; for a single row that is longer than a batch, as many as it takes."""
        batch, code = self._context.batch, OK
        for start in range(0, max(map(len, rows)), batch.n_rows):
            if self._alone is not None and self._alone.cancelled:
                return ABORTED
            batch.clear()
            for seq, row in enumerate(rows):
                batch.add(row[start : start + batch.n_rows], start, seq, output=True)
            batch.output_all()
            code = self._context.decode()
            self._context.synchronize()
            if code != OK:
                break
        return code

    def _take(self, taken: list[Job]) -> None:
        for seq, job in enumerate(taken):
            pointer = lib.llama_get_embeddings_seq(self._context.pointer, seq)
            job.found.append(np.ctypeslib.as_array(pointer, (self._width,)).copy())
        for job in {id(job): job for job in taken}.values():
            job.emit(PromptProgress(id=job.work.id, done=len(job.found), total=len(job.rows)))

    def _drop(self, job: Job, code: str, message: str) -> None:
        self._jobs.remove(job)
        job.emit(Failed(id=job.work.id, code=code, message=message))

    def fail_everything(self, message: str) -> None:
        """A step broke: nobody's rows can be trusted."""
        for job in list(self._jobs):
            self._drop(job, "internal", message)
        self._context.clear_memory()

    def end_everything(self) -> None:
        """The worker leaves."""
        for job in list(self._jobs):
            self._drop(job, "busy", say("engine.leaving"))
