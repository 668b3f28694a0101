"""Records: the ETL schema, JSONL and Parquet in, media loaded and checked; a bad one is refused with its reason."""
