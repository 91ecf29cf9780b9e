"""The chat templates that llama.cpp bundles with its source, fetched once and kept outside.

Each is the work of its model's makers under terms of their own, so none is copied into this
project: they come out of llama-cpp-python's source package, which carries llama.cpp.
"""

import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from llmchat.engine.worker.chat.template import ChatTemplate
from tests.models import CACHE

_FOLDER = "vendor/llama.cpp/models/templates/"
COUNT = 70


@cache
def folder() -> Path:
    """Where they lie, one `NAME.jinja` each."""
    release = version("llama-cpp-python")
    target = CACHE / f"templates-{release}"
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            part = Path(temporary) / "part"
            part.mkdir()
            _unpack(_download(f"llama-cpp-python=={release}", Path(temporary)), part)
            part.rename(target)
    return target


def _download(requirement: str, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "-d", str(into), requirement]
    subprocess.run(command, check=True, timeout=600)
    return next(into.glob("*.tar.gz"))


def _unpack(package: Path, into: Path) -> None:
    with tarfile.open(package) as archive:
        for member in archive:
            if _FOLDER in member.name and member.name.endswith(".jinja"):
                file = archive.extractfile(member)
                assert file is not None
                (into / Path(member.name).name).write_bytes(file.read())


def names() -> list[str]:
    """All of them, without `.jinja`."""
    return sorted(path.stem for path in folder().glob("*.jinja"))


@cache
def load(name: str) -> ChatTemplate:
    """One template; what its probe finds is kept for every test that asks."""
    source = (folder() / f"{name}.jinja").read_text(encoding="utf-8")
    return ChatTemplate(source, bos="<s>", eos="</s>")
