"""Storage: bytes of shards by chunk, from a local disk or an object store, whole or named as damaged."""
