"""Records of the demo as JSON lines, in the ETL schema (docs/records.md)."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LICENSE = "CC0-1.0"
MADE_AT = "2026-01-01T00:00:00Z"  # a fixed time: the same settings give the same bytes


def record(
    source: str,
    name: str,
    paths: Mapping[str, Any],
    text: str,
    *,
    title: str,
    language: str = "en",
    **metadata: Any,
) -> dict[str, Any]:
    """A synthesized record of `source`; `paths` are relative to the file that it goes into."""
    modalities = ["text", *(m for m in ("image", "audio") if m in paths)]
    if any(key == "video" or key.startswith("camera_") for key in paths):
        modalities.append("video")
    return {
        "unique_id": f"{source}-{name}",
        "source": source,
        "source_uri": f"mmhydra-demo:{source}/{name}",
        "modalities": modalities,
        "data_paths": dict(paths),
        "text": text,
        "metadata": {
            "title": title,
            "license": LICENSE,
            "upload_date": MADE_AT,
            "language": language,
            **metadata,
        },
        "quality_scores": {},
        "processing_log": [{"stage": "synthesis", "timestamp": MADE_AT, "status": "success"}],
        "data_card_info": {
            "collection_process": "synthesized by mmhydra.data.demo; the description is made with what it describes"
        },
    }


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Writes one record a line and returns how many. Raises OSError."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for one in records:
            file.write(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count
