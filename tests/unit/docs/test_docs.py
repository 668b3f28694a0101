"""README and docs say what is true: the tree is the tree, commands compose, links lead somewhere."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from mmhydra.compose import compose
from mmhydra.compose.building import build_configs

ROOT = Path(__file__).resolve().parents[3]
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# Files of tools, which stand where their tools look for them.
NOT_IN_TREE = {
    ".gitignore",
    "CHANGELOG.md",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
    "mmhydra/__init__.py",
    "mmhydra/__main__.py",
}


def tree_of_readme() -> dict[str, str]:
    """Paths of the README's tree with their purpose; folders end with a slash."""
    block = re.search(r"## The tree\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    found, parents = {}, {0: ""}
    for line in block.splitlines():
        indent, name, purpose = re.fullmatch(r"( *)(\S+) +(\S.*)", line).groups()
        depth = len(indent) // 2
        path = parents[depth] + name
        parents[depth + 1] = path
        found[path] = purpose
    return found


def tracked() -> set[str]:
    """Top-level entries, and those of mmhydra/ and tests/, as git knows them."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    entries = set()
    for file in files:
        parts = file.split("/")
        entries.add(parts[0] + ("/" if len(parts) > 1 else ""))
        if parts[0] in ("mmhydra", "tests") and len(parts) > 1:
            entries.add("/".join(parts[:2]) + ("/" if len(parts) > 2 else ""))
    return entries - NOT_IN_TREE


def test_tree_is_the_tree() -> None:
    assert tree_of_readme().keys() == tracked() - {"tests/conftest.py"}


def test_each_line_of_the_tree_has_one_short_purpose() -> None:
    assert all(10 < len(purpose) < 100 for purpose in tree_of_readme().values())


def build_commands() -> list[str]:
    """Every build of a dataset that the documents show, without its comment."""
    lines = [line for path in DOCS for line in re.findall(r"python -m mmhydra\.data build([^`│\n]*)", path.read_text())]
    return sorted({" ".join(shlex.split(line, comments=True)) for line in lines})


@pytest.mark.parametrize("command", build_commands())
def test_build_commands_compose(command: str) -> None:
    overrides = shlex.split(command)
    if any(override.startswith("-") or override.endswith("=NAME") for override in overrides):
        return  # a folder of groups or a recipe of the reader's own
    assert build_configs(overrides)


def commands() -> list[str]:
    """Every train command that the documents show, without its comment."""
    found = []
    for document in DOCS:
        for line in re.findall(r"python -m mmhydra\.train([^`│\n]*)", document.read_text()):
            found.append(" ".join(shlex.split(line, comments=True)))
        for line in re.findall(r"make train ARGS='([^']*)'", document.read_text()):
            found.append(line)
    return sorted(set(found))


@pytest.mark.parametrize("command", commands())
def test_train_commands_compose(command: str) -> None:
    overrides = shlex.split(command)
    # Flags are Hydra's; a run or a folder of groups is the reader's own.
    if any(override.startswith(("-", "resume=", "extend=", "hydra.searchpath=")) for override in overrides):
        return
    compose([override for override in overrides if "[overrides]" not in override])


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target
