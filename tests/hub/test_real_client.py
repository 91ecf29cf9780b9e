"""The hub of these tests against Hugging Face's own client: it speaks what the real one speaks.

And the cache that we write against that client's own scan: no warning, every file found.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmchat.errors import HubError
from tests.hub.conftest import FILE, REF, REPO, gguf_bytes, sha256, tell
from tests.hub.server import COMMIT, Fault, Hub

README = b"---\nlicense: apache-2.0\n---\n# A model\n"
CONTENT = gguf_bytes(3_000_000)
OTHERS = {f"extra-{n}.json": b"{}" for n in range(5)}


@pytest.fixture
def content(hub: Hub) -> bytes:
    hub.put(REPO, {FILE: CONTENT, "README.md": README, **OTHERS})
    return CONTENT


def client(hub: Hub, cache: Path, words: str) -> Any:
    """What `words` leave in `answer`, run with huggingface_hub in a process of its own."""
    code = f"import json, sys\nfrom huggingface_hub import *\n{words}\n"
    code += "sys.stdout.write('ANSWER ' + json.dumps(answer))\n"
    environ = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_CACHE": str(cache),
        "HF_HOME": str(cache.with_name("hf-home")),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout.partition(b"ANSWER ")[2])


def test_the_real_client_is_served_by_this_hub(hub, site, content):
    asked = client(
        hub,
        site.cache,
        f"""
api = HfApi()
info = api.model_info({REPO!r}, files_metadata=True)
small = hf_hub_download({REPO!r}, 'README.md')
large = hf_hub_download({REPO!r}, {FILE!r})
whole = snapshot_download({REPO!r})
tree = [[e.path, e.size, e.blob_id, e.lfs and e.lfs.sha256]
        for e in api.list_repo_tree({REPO!r}, recursive=True)]
some = [[e.path, e.lfs and e.lfs.sha256] for e in api.get_paths_info({REPO!r}, [{FILE!r}, 'no'])]
refs = [b.target_commit for b in api.list_repo_refs({REPO!r}).branches]
siblings = {{s.rfilename: s.lfs and s.lfs.sha256 for s in info.siblings}}
answer = [info.sha, siblings, small, large, whole, tree, some, refs]
""",
    )
    sha, siblings, small, large, whole, tree, some, refs = asked
    assert sha == COMMIT
    assert refs == [COMMIT]
    assert siblings[FILE] == sha256(content)
    assert Path(small).read_bytes() == README
    assert Path(large).read_bytes() == content
    assert len(list(Path(whole).iterdir())) == 7
    git = hashlib.sha1(b"blob %d\0" % len(README) + README).hexdigest()
    assert ["README.md", len(README), git, None] in tree
    assert len(tree) == 7, "three pages"
    assert some == [[FILE, sha256(content)]]
    # What it fetched is ours, too: nothing is asked for again.
    sent = hub.sent
    assert site.pull().identity == sha256(content)
    assert hub.sent == sent


def test_errors_are_the_real_clients_classes(hub, site, content):
    words = f"""
from huggingface_hub import errors
def failing(work):
    try:
        work()
    except errors.HfHubHTTPError as error:
        return type(error).__name__
answer = [
    failing(lambda: hf_hub_download('o/absent', {FILE!r})),
    failing(lambda: hf_hub_download({REPO!r}, 'absent.gguf')),
    failing(lambda: HfApi().model_info({REPO!r}, revision='absent')),
]
"""
    assert client(hub, site.cache, words) == [
        "RepositoryNotFoundError",
        "RemoteEntryNotFoundError",
        "RevisionNotFoundError",
    ]


def test_a_renamed_repository_is_found_by_both(hub, site, content):
    hub.renamed["o/old-GGUF"] = REPO
    path = client(hub, site.cache, f"answer = hf_hub_download('o/old-GGUF', {FILE!r})")
    assert Path(path).read_bytes() == content
    plan = site.plan("o/old-GGUF:Q4_0")
    assert (plan.repo, plan.name) == (REPO, REF), "under the name it has now"
    assert Path(site.pull("o/old-GGUF:Q4_0").path).read_bytes() == content


def test_its_own_scan_finds_what_we_pulled_without_a_warning(hub, site, content):
    shards = {f"big-Q8_0-{n:05}-of-00002.gguf": gguf_bytes(50_000, seed=n) for n in (1, 2)}
    hub.put("o/split", {**shards, "mmproj-F16.gguf": b"GGUF eye"}, commit="d" * 40)
    one, split = site.pull(), site.pull("o/split:Q8_0")
    scanned = client(
        hub,
        site.cache,
        """
scan = scan_cache_dir()
answer = [[str(w) for w in scan.warnings], scan.size_on_disk,
          {r.repo_id: [[f.file_name, str(f.file_path), f.size_on_disk] for v in r.revisions
                       for f in v.files] for r in scan.repos},
          {r.repo_id: [[v.commit_hash, list(v.refs)] for v in r.revisions] for r in scan.repos}]
""",
    )
    warnings, size, files, revisions = scanned
    assert warnings == []
    assert size == one.size + split.size
    assert files[REPO] == [[FILE, one.path, one.size]]
    assert {path for _, path, _ in files["o/split"]} == {*split.shards, split.projector}
    assert revisions == {REPO: [[COMMIT, ["main"]]], "o/split": [["d" * 40, ["main"]]]}
    offline = f"answer = hf_hub_download({REPO!r}, {FILE!r}, local_files_only=True)"
    assert client(hub, site.cache, offline) == one.path


def test_nothing_is_written_outside_the_cache(hub, site, content, tmp_path):
    """A whole pull, cut and gone on: only the cache's folder has changed."""
    before = _everything(tmp_path, site.cache)
    hub.cdn_faults.append(Fault(cut=1_000_000))
    site.pull()
    assert _everything(tmp_path, site.cache) == before
    inside = {path.relative_to(site.cache).parts[0] for path in site.cache.rglob("*")}
    assert inside == {"models--o--model-GGUF", ".locks"}


def _everything(root: Path, but: Path) -> dict[str, int]:
    return {
        str(path): path.lstat().st_mtime_ns
        for path in root.rglob("*")
        if not path.is_relative_to(but) and not path.is_relative_to(root / "home" / "cache")
    }


@pytest.mark.parametrize(
    "fault",
    [
        Fault(flip=50_000),
        pytest.param(Fault(cut=100_000), marks=pytest.mark.torture),
        pytest.param(Fault(cut=100_000, end="fin"), marks=pytest.mark.torture),
        pytest.param(Fault(status=503), marks=pytest.mark.torture),
    ],
    ids=["flip", "reset", "close", "status"],
)
def test_what_the_same_fault_does_to_both(hub, site, content, fault, request):
    """The reason for bytes of our own: told, not asserted of the other."""
    hub.cdn_faults.append(fault)
    words = f"""
import hashlib
try:
    path = hf_hub_download({REPO!r}, {FILE!r})
    answer = hashlib.sha256(open(path, 'rb').read()).hexdigest()
except Exception as error:
    answer = type(error).__name__
"""
    theirs = client(hub, site.cache.with_name("theirs"), words)
    hub.cdn_faults.clear()
    hub.cdn_faults.append(fault)
    try:
        ours = sha256(Path(site.pull().path).read_bytes())
    except HubError as error:
        ours = error.key
    good = sha256(content)
    told = {good: "right", sha256(_flipped(content)): "wrong bytes, taken for right"}
    name = request.node.callspec.id
    tell(f"{name}: huggingface_hub {told.get(theirs, theirs)}; ours {told.get(ours, ours)}")
    assert ours == ("hub.checksum" if fault.flip else good)


def _flipped(content: bytes) -> bytes:
    return content[:50_000] + bytes([content[50_000] ^ 1]) + content[50_001:]
