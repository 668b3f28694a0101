"""Real git in tests, whatever the person who runs them has set."""

import os
import subprocess
from pathlib import Path

import pytest


def git(root: Path, *arguments: str) -> str:
    """Runs git in a folder; returns what it prints, without the last line break."""
    return subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def without_settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No setting of the user counts; commits are by A."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    settings = folder / "gitconfig"
    settings.write_text("[user]\n\tname = A\n\temail = a@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
