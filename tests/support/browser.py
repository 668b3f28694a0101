"""A real Chromium that opens a page, and says what it made of it. Every name of a host is unknown to it."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Visit:
    """What a browser made of a page."""

    dom: str
    console: list[str]
    requests: list[str]  # addresses that the page, not the browser itself, asked the network for


class Browser:
    """Opens files, each in a profile of its own."""

    def __init__(self, path: str, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self.visits = 0

    def open(self, page: Path, *options: str, timeout_s: float = 300) -> Visit:
        self.visits += 1
        log = self.folder / f"net-{self.visits}.json"
        command = [
            self.path,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            f"--user-data-dir={self.folder / str(self.visits)}",
            f"--log-net-log={log}",
            *options,
            "--dump-dom",
            page.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        assert done.returncode == 0, done.stderr
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return Visit(done.stdout, console, _requests(json.loads(log.read_text())))


def _requests(log: dict[str, Any]) -> list[str]:
    starts = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    made = [event["params"] for event in log["events"] if event["type"] == starts and "url" in event.get("params", {})]
    # What the browser asks for on its own account has no origin; blob: and data: are of the page itself.
    asked = [params["url"] for params in made if params.get("initiator") != "not an origin"]
    return [url for url in asked if not url.startswith(("blob:", "data:"))]
