"""Which workers satisfy which wants."""

import pytest

from llmchat.engine.client.wanting import satisfies
from llmchat.engine.protocol import Facts, Placement
from llmchat.values import Wants

FACTS = Facts(n_ctx=4096, n_threads=2, placement=Placement(n_gpu_layers=10, n_layers=30))


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        (Wants(), Wants(), True),
        (Wants(), Wants(n_ctx=4096), True),
        (Wants(), Wants(n_ctx=2048), True),
        (Wants(), Wants(n_ctx=8192), False),
        (Wants(n_ctx=8192), Wants(n_ctx=8192), True),  # asked before, and cut to what fits
        (Wants(n_ctx=8192), Wants(n_ctx=16384), False),
        (Wants(), Wants(n_gpu_layers="auto"), True),
        (Wants(n_gpu_layers=10), Wants(n_gpu_layers="auto"), False),
        (Wants(), Wants(n_gpu_layers=10), True),
        (Wants(), Wants(n_gpu_layers=0), False),
        (Wants(), Wants(n_gpu_layers="all"), False),
        (Wants(n_gpu_layers="all"), Wants(n_gpu_layers="all"), True),
        (Wants(), Wants(cache_type_k="f16"), True),
        (Wants(), Wants(cache_type_k="q8_0"), False),
        (Wants(cache_type_k="q8_0"), Wants(), True),
        (Wants(cache_type_k="q8_0"), Wants(cache_type_k="f16"), False),
        (Wants(), Wants(n_threads=2), True),
        (Wants(), Wants(n_threads=4), False),
        (Wants(), Wants(flash_attn="auto"), True),
        (Wants(flash_attn="on"), Wants(flash_attn="auto"), False),
        (Wants(), Wants(swa_full=True), False),
        (Wants(), Wants(tensor_split=(1.0, 2.0)), False),
    ],
)
def test_unset_is_any_the_context_a_minimum_the_rest_exact(
    held: Wants, wanted: Wants, expected: bool
):
    assert satisfies(held, FACTS, wanted) is expected
