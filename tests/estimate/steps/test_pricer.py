"""What the prices of steps are shared by."""

from dataclasses import fields

from advisor.backends.deployment import KvCache, KvLayout
from advisor.estimate.steps.pricer import cost_equivalent_cache


def test_only_the_block_size_and_prefix_reuse_of_a_cache_have_no_price() -> None:
    kv = KvCache(layout=KvLayout.PAGED, block_tokens=16, format="int8", window=128, sink_tokens=4, prefix_reuse=True)
    priced = cost_equivalent_cache(kv)
    changed = {field.name for field in fields(kv) if getattr(priced, field.name) != getattr(kv, field.name)}
    assert changed == {"block_tokens", "prefix_reuse"}
