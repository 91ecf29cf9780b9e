"""What the loop asks of any constraint."""

from typing import Protocol

from llmchat.engine.worker.capi import Floats
from llmchat.engine.worker.sampling import Chain


class Rule(Protocol):
    """One reply's constraint and where the reply stands in it. It follows tokens, never cells."""

    def sample(self, chain: Chain, logits: Floats) -> int | None:
        """The next token, which rule and chain then remember. None: nothing more is allowed.

        Args:
            chain: chooses among what is allowed.
            logits: a row as the model gave it, shape (n_vocab,); it is not changed.

        Raises:
            GenerationFailed: the constraint got too complex on the way.
        """
        ...

    def force(self, token: int) -> bool:
        """Go on over a token that was not sampled. False: the rule refuses it."""
        ...

    @property
    def complete(self) -> bool:
        """Nothing may follow: the reply ends without another step."""
        ...

    def close(self) -> None:
        """Free it."""
        ...
