"""Builds a dataset version: records to shards, by any number of processes, the same bytes each time.

Stages, each of which leaves files that the next start of a killed build goes on from:

    read      records are validated, loaded and filtered; each batch of records is a task of its own
    verdicts  what needs to see all records at once: duplicates, and the split of each record
    tokenizer is trained or taken over
    encode    what was accepted becomes documents of ids; the same batches, each a task of its own
    shards    documents are laid into shards, each a task of its own
    finish    pack index, manifest, data card, report; then the folder takes its name
"""
