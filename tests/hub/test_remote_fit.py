"""What fits, before the download: from a range of the remote header; the best of what there is."""

from pathlib import Path

import pytest

from llmchat.core.discovery import Discovery
from llmchat.core.fitting import Fits
from llmchat.engine.placing import MARGIN
from llmchat.engine.protocol import Device
from llmchat.errors import HubError, ModelFileError, NotFound
from tests.core.test_fitting import GIB, PLAIN, cpu, gpu
from tests.hub.conftest import Site, gguf_bytes
from tests.hub.server import Fault, Hub
from tests.written import Written, write

VARIANTS = {"Q2_K": 0.6, "Q4_K_M": 1.0, "Q6_K": 1.5, "Q8_0": 2.0, "F16": 3.8}
SMALL = Written("llama", 4, 512, 1024, 8, 2, 64, vocab=2000)


@pytest.fixture
def remote(hub: Hub, site: Site, tmp_path: Path):
    """A repository with variants from 7 to 41 MB, judged on a machine of your choice."""
    content = write(tmp_path, "small", SMALL).read_bytes()
    sized = {
        f"m-{label}.gguf": content[: int(len(content) * share)].ljust(
            int(len(content) * share), b"\0"
        )
        for label, share in VARIANTS.items()
    }
    # Only the usual one is a whole GGUF: its header is the one that is read.
    sized["m-Q4_K_M.gguf"] = content
    hub.put("o/m-GGUF", {**sized, "mmproj-F16.gguf": gguf_bytes(5_000_000)})

    def fits(*devices: Device) -> Fits:
        discovery = Discovery(environ=site.environ, models=site.models, config=site.config)
        return Fits(models=site.models, devices=lambda: devices, discovery=discovery)

    return fits


@pytest.mark.parametrize(
    ("devices", "best"),
    [((gpu(24), cpu(64)), "Q8_0"), ((cpu(64),), "Q8_0"), ((cpu(0.001),), None)],
)
def test_the_best_variant_is_the_largest_of_4_to_8_bits_that_fits(remote, devices, best):
    rows = remote(*devices).variants("o/m-GGUF")
    assert [row.offer.label for row in rows] == list(VARIANTS)
    assert [row.offer.label for row in rows if row.best] == ([best] if best else [])
    assert all(row.fit.projector == 5_000_000 for row in rows)


def test_a_smaller_variant_on_the_gpu_is_better_than_a_larger_beside_it(remote):
    rows = {row.offer.label: row for row in remote(gpu(24), cpu(64)).variants("o/m-GGUF", PLAIN)}
    need = {label: row.fit.devices[0].need for label, row in rows.items()}
    free = MARGIN + (need["Q6_K"] + need["Q8_0"]) // 2
    judged = remote(gpu(free / GIB), cpu(64)).variants("o/m-GGUF", PLAIN)
    assert {row.offer.label: row.fit.verdict for row in judged} == {
        "Q2_K": "gpu", "Q4_K_M": "gpu", "Q6_K": "gpu", "Q8_0": "partial", "F16": "partial",
    }  # fmt: skip
    assert [row.offer.label for row in judged if row.best] == ["Q6_K"]


def test_only_the_header_is_fetched_and_only_once(remote, hub: Hub):
    fits = remote(cpu(64))
    first = fits.remote("o/m-GGUF:Q4_K_M")
    assert hub.sent <= 1 << 20
    assert first.verdict == "ram"
    sent = hub.sent
    assert fits.remote("o/m-GGUF:Q4_K_M") == first
    assert hub.sent == sent


def test_before_and_after_the_download_agree(remote, site: Site):
    fits = remote(cpu(64))
    before = fits.remote("o/m-GGUF:Q4_K_M")
    after = fits.of(site.pull("o/m-GGUF:Q4_K_M"))
    assert after == before


def test_a_server_without_ranges_and_one_that_cuts(remote, hub: Hub):
    hub.cdn_faults.append(Fault(ignore_range=True))
    assert remote(cpu(64)).remote("o/m-GGUF:Q4_K_M").verdict == "ram"


def test_a_gated_repository_shows_what_it_offers_without_a_fit(remote, hub: Hub):
    hub.gated.add("o/m-GGUF")
    rows = remote(cpu(64)).variants("o/m-GGUF")
    assert [row.offer.label for row in rows] == list(VARIANTS)
    assert all(row.fit is None and not row.best for row in rows)
    with pytest.raises(HubError) as caught:
        remote(cpu(64)).remote("o/m-GGUF:Q4_K_M")
    assert caught.value.key == "hub.gated"


def test_what_is_no_gguf_has_no_fit(remote, hub: Hub, site: Site):
    hub.put("o/bad-GGUF", {"m-Q4_0.gguf": b"GGUF" + b"\xff" * 100})
    fits = remote(cpu(64))
    [row] = fits.variants("o/bad-GGUF")
    assert row.fit is None
    assert not row.best
    with pytest.raises(ModelFileError):
        fits.remote("o/bad-GGUF:Q4_0")
    with pytest.raises(NotFound):
        fits.remote("o/m-GGUF:Q3_K_S")
