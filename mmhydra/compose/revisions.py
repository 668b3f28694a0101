"""conf/ of a git revision, or as it is now, composed for a comparison: also where it does not fit today's schema."""

import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmhydra import paths
from mmhydra.compose.command_line import parse
from mmhydra.compose.composing import compose_tree
from mmhydra.compose.loader import open_loader
from mmhydra.config.frozen import add_legacy  # what reads old frozen configs reads an old conf/
from mmhydra.config.problems import ConfigError
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import COMMAND_KEYS, to_run_config
from mmhydra.errors import UserError

_CHOOSERS = ("experiment", "model")  # groups whose choices are runs


@dataclass(frozen=True)
class Conf:
    """One version of conf/, and the user's folders beside it; `root` is None for the conf/ of today's runs."""

    title: str
    root: Path | None
    config_dirs: tuple[Path, ...]

    def compose(self, overrides: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The values of a command line, fields that came later included, and a note if they fit no RunConfig.

        Raises UserError if they can't be composed.
        """
        try:
            tree, _ = compose_tree(parse(overrides), self.config_dirs, self.root)
        except UserError as error:
            raise UserError(f"{self.title} can't be composed: {error}") from error
        command = {key: tree.pop(key, None) for key in COMMAND_KEYS}
        if command["resume"] or command["extend"]:
            raise UserError("resume= and extend= take the config of a run, so conf/ has no say; give the run instead")
        add_legacy(tree, RunConfig)
        try:
            return to_run_config(tree).model_dump(mode="json"), ()
        except ConfigError as error:
            first, *others = (str(problem) for problem in error.problems)
            more = f" and {len(others)} more" if others else ""
            return tree, (f"{self.title} does not fit today's schema ({first}{more}); compared as composed",)

    def runs(self) -> list[str]:
        """A command line for the defaults, each experiment and each model."""
        loader = open_loader(self.config_dirs, self.root)
        return ["", *(f"{group}={choice}" for group in _CHOOSERS for choice in loader.get_group_options(group))]


def find_commit(revision: str) -> str | None:
    """The commit that a revision of this checkout names; None for other words, and where there is no git."""
    root = paths.checkout()
    if root is None or revision.startswith("-"):
        return None
    try:
        done = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except OSError:
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def why_no_revisions() -> str | None:
    """Why no revision can be found here, whatever its name; None if that is not so."""
    root = paths.checkout()
    if root is None:
        return "mmhydra is installed as a wheel, which has no git history"
    try:
        done = _git(root, "rev-parse", "HEAD")
    except OSError as error:
        return f"git can't be started: {error}"
    return f"git says of {root}: {done.stderr.decode(errors='replace').strip()}" if done.returncode else None


@contextmanager
def extracted(commit: str) -> Iterator[Path]:
    """A copy of conf/ as a commit has it. Raises UserError if it has none."""
    root = paths.checkout()
    assert root is not None, "a commit was found in it"
    done = _git(root, "archive", "--format=tar", commit, "conf")
    if done.returncode:
        raise UserError(f"commit {commit} has no conf/: {done.stderr.decode(errors='replace').strip()}")
    with TemporaryDirectory(prefix="mmhydra-conf-") as scratch:
        try:
            with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
                # Python before 3.11.4 has no filters; what git packs is trusted all the same.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(scratch)
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"conf/ of commit {commit} can't be extracted: {error}") from error
        yield Path(scratch) / "conf"


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True)
