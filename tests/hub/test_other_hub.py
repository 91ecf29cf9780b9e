"""A second, independent speaker of the hub's protocol between us and the hub (security plan B11).

olah is a pull-through mirror of Hugging Face. It is installed once, beside the test models and
outside of the checkout: too heavy for every run, so this is part of the full counts.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import run
from tests.hub.conftest import FILE, REF, REPO, gguf_bytes, sha256, tell
from tests.hub.server import Hub
from tests.models import CACHE

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

VERSION = "0.5.4"
HOME = CACHE / f"olah-{VERSION}"
CONFIG = """
[basic]
host = "127.0.0.1"
port = {port}
ssl-key = ""
ssl-cert = ""
repos-path = "{folder}/repos"
hf-scheme = "http"
hf-netloc = "{hub}"
hf-lfs-netloc = "{cdn}"
mirror-scheme = "http"
mirror-netloc = "127.0.0.1:{port}"
mirror-lfs-netloc = "127.0.0.1:{port}"
mirrors-path = []

[accessibility]
offline = false
[[accessibility.proxy]]
repo = "*/*"
allow = true
[[accessibility.cache]]
repo = "*/*"
allow = true
"""


@pytest.fixture(scope="module")
def program() -> Path:
    """olah's command, installed when it is not there yet."""
    command = HOME / "bin" / "olah-cli"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
        install = [str(HOME / "bin" / "pip"), "install", "-q", f"olah=={VERSION}"]
        subprocess.run(install, check=True, timeout=400)
    return command


@pytest.fixture
def mirror(hub: Hub, program: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a mirror in front of the hub."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "olah.toml"
    hosts = {"hub": hub.endpoint[len("http://") :], "cdn": hub.cdn[len("http://") :]}
    config.write_text(CONFIG.format(port=port, folder=tmp_path, **hosts))
    with (tmp_path / "olah.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), "-c", str(config)], stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            hub.closing.wait(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def test_the_same_pull_through_a_mirror_and_by_the_stock_client(
    hub: Hub, mirror: str, tmp_path: Path
):
    """B11: three ways, one sha256."""
    content = gguf_bytes(3_000_000)
    hub.put(REPO, {FILE: content, "README.md": b"# A model\n"})
    ways = {"hub": hub.endpoint, "mirror": mirror}
    found = {}
    for name, endpoint in ways.items():
        cache = tmp_path / name
        done = run("pull", REF, env={"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache)})
        assert done.returncode == 0, done.stderr
        [path] = cache.rglob("*.gguf")
        found[name] = sha256(path.read_bytes())
    code = f"from huggingface_hub import *; print(hf_hub_download({REPO!r}, {FILE!r}))"
    environ = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path / "stock")}
    stock = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environ, capture_output=True, check=True
    )
    found["huggingface_hub"] = sha256(Path(stock.stdout.decode().strip()).read_bytes())
    tell(f"B11: {sorted(found)} agree")
    assert set(found.values()) == {sha256(content)}
