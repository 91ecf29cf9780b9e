"""Every error that a user can meet, as one tree.

    LlmchatError                 one sentence, one next step, an exit code
      UsageError                 the words of a command are off (2)
      NotFound                   a model, reference, conversation or setting that is not there (3)
      ConfigError                a configuration file or value that cannot be used (1)
      StoreError                 conversations cannot be read or written (1)
      ModelFileError             a file that is no usable model (1)
      HubError                   the network or a hub's answer (5)
      EngineError                a model cannot be loaded or asked
        GenerationFailed         this request failed; the worker lives (1)
        WorkerDied               the process is gone (4)
        ModelBusy                somebody else uses the model in a way that excludes ours (1)
      Interrupted                the user stopped it (130)

Owns the tree and the exit codes. Sentences live in the catalogue: an error carries a key and
values, `KEY` is the sentence and `KEY_hint` the next step. Refuses to print: faces do.
"""

from enum import IntEnum

from llmchat.text import FALLBACK, catalogue, say


class ExitCode(IntEnum):
    """What the process tells the shell. Documented in docs/cli.md; numbers never change."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    ENGINE_DIED = 4
    NETWORK = 5
    INTERRUPTED = 130


class LlmchatError(Exception):
    """An error with a sentence for a person. `recoverable`: the same action may work again."""

    exit_code = ExitCode.FAILED

    def __init__(self, key: str, /, *, recoverable: bool = False, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values
        self.recoverable = recoverable

    @property
    def sentence(self) -> str:
        """What happened, in one sentence. May hold text from outside: clean it before showing."""
        return say(self.key, **self.values)

    @property
    def hint(self) -> str | None:
        """What to do next, if there is something."""
        key = f"{self.key}_hint"
        return say(key, **self.values) if key in catalogue(FALLBACK) else None

    def __str__(self) -> str:
        return self.sentence


class UsageError(LlmchatError):
    """The words of a command are off."""

    exit_code = ExitCode.USAGE


class NotFound(LlmchatError):
    """A model, reference, conversation or setting is not there."""

    exit_code = ExitCode.NOT_FOUND


class ConfigError(LlmchatError):
    """A configuration file or value cannot be used."""


class StoreError(LlmchatError):
    """Conversations cannot be read or written."""


class ModelFileError(LlmchatError):
    """A file is no usable model."""


class HubError(LlmchatError):
    """The network, or what a hub answered."""

    exit_code = ExitCode.NETWORK


class EngineError(LlmchatError):
    """A model cannot be loaded or asked."""


class GenerationFailed(EngineError):
    """This request failed; the worker lives and others go on."""


class ModelBusy(EngineError):
    """Another client uses the model in a way that excludes what is wanted."""


class WorkerDied(EngineError):
    """The worker process is gone. Carries how it died and its last words."""

    exit_code = ExitCode.ENGINE_DIED

    def __init__(
        self,
        key: str = "engine.died",
        /,
        *,
        signal: str = "",
        last_lines: tuple[str, ...] = (),
        **values: object,
    ) -> None:
        super().__init__(key, recoverable=True, signal=signal, **values)
        self.signal = signal
        self.last_lines = last_lines


class Interrupted(LlmchatError):
    """The user stopped it."""

    exit_code = ExitCode.INTERRUPTED

    def __init__(self) -> None:
        super().__init__("cli.interrupted")
