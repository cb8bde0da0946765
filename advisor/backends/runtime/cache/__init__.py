"""The paged KV cache: blocks, tables, prefixes, storage formats."""
