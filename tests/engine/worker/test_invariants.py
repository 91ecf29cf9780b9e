"""Rules whose breach kills the process, or computes something wrong without a word.

Others have their tests where they belong: rows of a batch and of logits, NULL and None, and states
(test_native.py), a picker at each chain's end (test_constraints.py), reuse (memory/).
"""

import ast
import gc
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as lib

import llmchat.engine
from llmchat.engine.worker.capi import CApiError, Context
from llmchat.engine.worker.loader import (
    ContextParams,
    Loaded,
    ModelParams,
    native_context,
    open_context,
    open_model,
)
from llmchat.engine.worker.log import Level, LogRing
from llmchat.engine.worker.vocab import Vocab

ENGINE = Path(llmchat.engine.__file__).parent
SMALL = ContextParams(n_ctx=256, n_seq_max=2, n_batch=32, n_ubatch=32)


def trees(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for module in sorted(folder.rglob("*.py")):
        yield module, ast.parse(module.read_text(encoding="utf-8"))


def test_every_pool_is_unified():
    """A partial `seq_cp` in a partitioned one ends the process."""
    assert native_context(SMALL).kv_unified


@pytest.mark.model
def test_callbacks_outlive_the_garbage_collector(starter: Path):
    """llama.cpp calls into freed memory when Python lets a CFUNCTYPE go."""
    log = LogRing(echo=Level.CONT)
    log.install()
    calls = 0

    def progress(_fraction: float) -> bool:
        nonlocal calls
        calls += 1
        if calls % 50 == 1:
            gc.collect()
        return True

    model = open_model([str(starter)], ModelParams(n_gpu_layers=0), log, progress)
    context = Context(open_context(model, SMALL, log), Vocab(model).size, 32)
    gc.collect()
    context.batch.clear()
    context.batch.add([1, 2, 3], 0, 0, output=True)
    assert context.decode() == 0
    assert calls > 50
    Loaded(model, context, Vocab(model)).close()


@pytest.mark.model
def test_a_context_is_freed_before_its_model_and_once(
    starter: Path, monkeypatch: pytest.MonkeyPatch
):
    log = LogRing(echo=Level.CONT)
    log.install()
    model = open_model([str(starter)], ModelParams(n_gpu_layers=0), log)
    context = Context(open_context(model, SMALL, log), Vocab(model).size, 32)
    order: list[str] = []
    for name in ("llama_free", "llama_model_free"):
        monkeypatch.setattr(lib, name, partial(_free, getattr(lib, name), order, name))
    loaded = Loaded(model, context, Vocab(model))
    loaded.close()
    loaded.close()
    assert order == ["llama_free", "llama_model_free"]


def _free(real: Callable[[object], None], order: list[str], name: str, pointer: object) -> None:
    order.append(name)
    real(pointer)


@pytest.mark.model
def test_a_context_computes_on_one_thread_only(starter: Path):
    log = LogRing(echo=Level.CONT)
    log.install()
    model = open_model([str(starter)], ModelParams(n_gpu_layers=0), log)
    context = Context(open_context(model, SMALL, log), Vocab(model).size, 32)
    context.batch.add([1], 0, 0, output=True)
    refused: list[CApiError] = []

    def other() -> None:
        try:
            context.decode()
        except CApiError as error:
            refused.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(refused) == 1
    assert context.decode() == 0
    Loaded(model, context, Vocab(model)).close()


def test_a_worker_is_spawned_never_forked():
    """A fork after a load hangs in libgomp; one before it would share descriptors and locks."""
    banned = {"os.fork", "os.forkpty", "multiprocessing", "ProcessPoolExecutor"}
    found = {
        (module.name, name)
        for module, tree in trees(ENGINE)
        for node in ast.walk(tree)
        for name in _names(node)
        if name in banned
    }
    assert found == set()


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)]
    if isinstance(node, ast.Import):
        return [part.name.split(".")[0] for part in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").split(".")[0], *(part.name for part in node.names)]
    return []


def test_what_llama_cpp_returns_is_never_compared_with_none():
    """NULL comes back as an object that is falsy and is not None."""
    wrong = [
        (module.name, node.lineno)
        for module, tree in trees(ENGINE / "worker")
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Compare)
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value is None
        and ast.unparse(node.left) in _from_llama(function)
    ]
    assert wrong == []


def _from_llama(function: ast.FunctionDef) -> set[str]:
    """Names that a function gives to pointers which a call of llama.cpp returned."""
    return {
        ast.unparse(target)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).startswith("lib.llama_")
        for target in node.targets
    }
