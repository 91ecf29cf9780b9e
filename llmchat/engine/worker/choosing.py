"""What came out of a decode: tokens chosen, shown, and the end of a reply noticed.

Owns the way from a row of logits to a client's text, on the inference thread. Refuses how one token
is drawn (`sampling.py`, `constraint/`) and who is computed (`generation.py`).
"""

import math
import time
from collections.abc import Iterable

from llmchat.engine.protocol import TokenInfo
from llmchat.engine.worker.admission import Admission, report
from llmchat.engine.worker.capi import Context
from llmchat.engine.worker.reply import Part, Reply
from llmchat.engine.worker.rivals import describe, sample_with_rivals
from llmchat.errors import GenerationFailed
from llmchat.text import say


class Chooser:
    """Chooses the next token of every reply whose row was computed."""

    def __init__(self, context: Context, admission: Admission, markers: Iterable[bytes]) -> None:
        """`markers`: control tokens that mean something to the parser, as their text."""
        self._context = context
        self._admission = admission
        self._table = admission.table
        self._vocab = admission.vocab
        shown = frozenset(markers)
        piece = self._vocab.piece
        self._hidden = frozenset(t for t in self._vocab.controls if piece(t) not in shown)

    def take(self, parts: list[Part]) -> None:
        """The decode of `parts` is done: their cells hold what was computed."""
        for reply, count, _row, guess in parts:
            slot = reply.slot
            assert slot is not None
            start = len(slot.tokens)
            self._table.extend(slot, reply.tokens[start : start + count] + guess)
            if not reply.first and start + count in reply.task.marks:
                self._table.checkpoint(slot)
        for part in parts:
            reply = part.reply
            if part.guess:
                self._verify(part)
            elif reply.first:
                self._sample(reply, part.row)
            else:
                self._take_prompt(reply, part.row)

    def most_at_once(self, replies: list[Reply]) -> int:
        """Tokens that may be chosen for each before anybody looks at them: see `choose`."""
        if self._admission.untidy or any(reply.is_watched for reply in replies):
            return 1
        most = self._admission.n_ctx - max(len(reply.tokens) for reply in replies)
        for reply in replies:
            limit = reply.task.request.max_tokens
            if limit is not None:
                most = min(most, limit - reply.written)
        return max(1, most)

    def choose(self, parts: list[Part]) -> bool:
        """Choose a next token for each, and make the batch the step that computes it.

        Nothing else: `look_back` does the rest for all of them. False: somebody's reply is over.
        """
        batch = self._context.batch
        go_on = True
        for reply, _count, row, _guess in parts:
            token = reply.chain.sample(self._context, row)
            if token in reply.task.ends:
                reply.over, go_on = True, False
            else:
                reply.tokens.append(token)
                batch.follow(row, token)
        return go_on

    def look_back(self, parts: list[Part], steps: int) -> None:
        """After so many steps and `choose` after each: what came of them."""
        now = time.perf_counter()
        for part in parts:
            reply, slot = part.reply, part.reply.slot
            assert slot is not None
            start = len(slot.tokens)
            self._table.extend(slot, reply.tokens[start : start + steps])
            reply.last = now
            for token in reply.tokens[start + 1 :]:
                reply.text.add(self._visible(reply, token), (), now)
            if reply.over:
                self._admission.end(reply, "stop")
            else:
                self._check_end(reply)

    def _take_prompt(self, reply: Reply, row: int) -> None:
        report(reply.task)
        if reply.pending == 0:
            for each in self._sharing(reply):
                self._sample(each, row)

    def _sharing(self, reply: Reply) -> list[Reply]:
        """The reply, and those that share the prompt it has just read."""
        followers = [other for other in reply.task.replies if other.leader is reply]
        assert reply.slot is not None
        for other in followers:
            other.leader = None
            assert other.slot is not None
            self._table.share(reply.slot, other.slot, len(reply.slot.tokens))
        return [reply, *followers]

    def _verify(self, part: Part) -> None:
        """Sample row by row; a guess counts only as far as it is what is chosen anyway."""
        reply, slot = part.reply, part.reply.slot
        assert slot is not None
        before = len(reply.tokens)
        right = 0
        for row, guess in enumerate([*part.guess, None], part.row):
            self._sample(reply, row)
            if reply.finish is not None or reply.tokens[-1] != guess:
                break
            right += 1
        self._table.cut(slot, before + right)
        if reply.drafter is not None:
            reply.drafter.observe(len(part.guess), right)

    def _sample(self, reply: Reply, row: int) -> None:
        if reply.finish is not None or (not reply.first and not self._begin(reply)):
            return
        try:
            token, infos = self._choose(reply, row)
        except GenerationFailed as error:  # a constraint that got too complex on the way
            self._admission.fail(reply.task, "bad_grammar", error.sentence)
            return
        if token is None:
            self._admission.end(reply, "stop")
            return
        if not reply.first and math.isnan(self._context.logits(row)[token]):
            self._admission.fail(reply.task, "decode_failed", say("engine.not_a_number"))
            return
        reply.last = time.perf_counter()
        reply.first = reply.first or reply.last
        if token in reply.task.ends:
            self._admission.end(reply, "stop")
            return
        reply.tokens.append(token)
        reply.text.add(self._visible(reply, token), infos, reply.last)
        self._check_end(reply)

    def _choose(self, reply: Reply, row: int) -> tuple[int | None, tuple[TokenInfo, ...]]:
        """The next token, and what was asked about it. None: its constraint allows no more."""
        request = reply.task.request
        rivals = request.top_logprobs
        if reply.rule is not None:
            logits = self._context.logits(row)
            token = reply.rule.sample(reply.chain, logits)
            if token is None:
                return None, ()
            if rivals > 0:
                return token, (describe(self._vocab, logits, token, rivals, {}),)
        elif rivals > 0:
            info = sample_with_rivals(reply.chain, self._context, row, rivals)
            return info.token, (info,)
        else:
            token = reply.chain.sample(self._context, row)
        return token, (TokenInfo(token),) if request.want_tokens else ()

    def _visible(self, reply: Reply, token: int) -> bytes:
        """A token's text; of control tokens only those that mean something to the parser."""
        if token in self._hidden and not reply.text.verbatim:
            return b""
        return self._vocab.piece(token)

    def _begin(self, reply: Reply) -> bool:
        """Before the first token: send what is forced. False: the reply is over."""
        task = reply.task
        task.prompt_done = task.prompt_done or time.perf_counter()
        want = task.request.want_tokens or task.request.top_logprobs > 0
        for token in task.forced:
            info = (TokenInfo(token),) if want else ()
            reply.text.add(self._visible(reply, token), info, task.prompt_done)
        if reply.text.stopped:
            self._admission.end(reply, "stop")
        elif task.request.max_tokens == 0:
            self._admission.end(reply, "length")
        return reply.finish is None

    def _check_end(self, reply: Reply) -> None:
        limit = reply.task.request.max_tokens
        if reply.text.stopped or (reply.rule is not None and reply.rule.complete):
            self._admission.end(reply, "stop")
        elif limit is not None and reply.written >= limit:
            self._admission.end(reply, "length")
        elif len(reply.tokens) >= self._admission.n_ctx:
            self._admission.end(reply, "context")
