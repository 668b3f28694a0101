"""The demo's text: the source and the docstrings of the running Python's standard library."""

import ast
import hashlib
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path

MIN_FILE_BYTES = 1000
# Third-party packages, tests (some are not even valid Python) and files written by this machine's build.
SKIPPED_FOLDERS = ("site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__")
SKIPPED_PREFIXES = ("config-", "_sysconfigdata")


@dataclass(frozen=True)
class Module:
    """One module: its path in the library, its source, and its docstrings under headings ("" without any)."""

    path: str
    code: str
    docs: str

    @property
    def num_bytes(self) -> int:
        """Bytes of text, code and docstrings together."""
        return len(self.code.encode()) + len(self.docs.encode())

    def held_out(self, fraction: float) -> bool:
        """Whether the module's path puts it into the `fraction` (0 to 1) that is kept from training."""
        # The last bytes: the first ones decide the order in which modules are taken (choose_modules).
        return int.from_bytes(_path_hash(self.path)[-8:], "big") < fraction * 2.0**64


def choose_modules(max_bytes: int, root: Path | None = None) -> list[Module]:
    """Modules of the standard library (or of the tree `root`) with at most `max_bytes` of text.

    They are taken in the order of their paths' sha256, so any amount is a sample of the whole library. A
    module that does not fit any more is left out and the next one is tried. Raises OSError where the library
    cannot be read.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    chosen: list[Module] = []
    left = max_bytes
    for path in sorted(_paths(root), key=_path_hash):
        if not MIN_FILE_BYTES <= (root / path).stat().st_size <= left:
            continue
        module = _read(root, path)
        if module and module.num_bytes <= left:
            chosen.append(module)
            left -= module.num_bytes
    return chosen


def docstrings(code: str, name: str) -> str:
    """The docstrings in a module's source, each under its qualified name, in reading order; "" without any.

    Raises SyntaxError or ValueError where `code` is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old modules are not our concern
        tree = ast.parse(code)
    parts: list[str] = []
    _collect(tree, name, 1, parts)
    return "\n\n".join(parts) + "\n" if parts else ""


def _paths(root: Path) -> list[str]:
    found = (path.relative_to(root) for path in root.rglob("*.py"))
    return [
        path.as_posix()
        for path in found
        if not any(part in SKIPPED_FOLDERS or part.startswith(SKIPPED_PREFIXES) for part in path.parts)
    ]


def _read(root: Path, path: str) -> Module | None:
    try:
        code = (root / path).read_bytes().decode("utf-8")
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        docs = docstrings(code, name)
        docs.encode("utf-8")  # a docstring may spell out a lone surrogate, which no file can hold
    except (SyntaxError, ValueError):  # UnicodeError is a ValueError
        return None
    return Module(path, code, docs)


def _collect(node: ast.AST, name: str, level: int, parts: list[str]) -> None:
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        text = ast.get_docstring(node)
        if text:
            parts.append(f"{'#' * level} {name}\n\n{text}")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            _collect(child, f"{name}.{child.name}", min(level + 1, 3), parts)
        elif isinstance(child, (ast.stmt, ast.ExceptHandler)):  # definitions under an if or a try
            _collect(child, name, level, parts)


def _path_hash(path: str) -> bytes:
    return hashlib.sha256(path.encode()).digest()
