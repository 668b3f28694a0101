import hashlib

import numpy as np
import pytest

from mmhydra.data.demo.stdlib import choose_modules, docstrings

MODULE = '''"""Top.

    Indented.
"""
import os

if os.name == "posix":
    def f():
        """In an if."""
else:
    def g():
        pass

try:
    pass
except ImportError:
    class Fallback:
        """In an except."""

class A:
    """A class."""

    async def method(self):
        """A method."""
        def inner():
            """Inner."""
'''


def test_docstrings_have_qualified_names_in_reading_order():
    assert docstrings(MODULE, "pkg.mod") == (
        "# pkg.mod\n\nTop.\n\nIndented.\n\n"
        "## pkg.mod.f\n\nIn an if.\n\n"
        "## pkg.mod.Fallback\n\nIn an except.\n\n"
        "## pkg.mod.A\n\nA class.\n\n"
        "### pkg.mod.A.method\n\nA method.\n\n"
        "### pkg.mod.A.method.inner\n\nInner.\n"
    )
    assert docstrings("x = 1\n", "m") == ""


@pytest.fixture
def tree(tmp_path):
    text = '"""A docstring."""\n' + "x = 1\n" * 300
    for name in (
        "a.py",
        "b/__init__.py",
        "b/c.py",
        "test/t.py",
        "b/tests/t.py",
        "site-packages/s.py",
        "d/big.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text * 50 if name == "d/big.py" else text)
    (tmp_path / "small.py").write_text("x = 1\n")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n" + text.encode())
    (tmp_path / "broken.py").write_text("def (\n" + text)
    (tmp_path / "surrogate.py").write_text('"""\\ud800"""\n' + text)
    (tmp_path / "_sysconfigdata_x.py").write_text(text)
    (tmp_path / "notes.txt").write_text(text)
    return tmp_path


def test_choice_skips_what_is_no_library_code(tree):
    modules = choose_modules(10**6, tree)
    paths = ["a.py", "b/__init__.py", "b/c.py", "d/big.py"]
    assert [module.path for module in modules] == sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())
    headings = {module.path: module.docs.split("\n")[0] for module in modules}
    assert headings["b/__init__.py"] == "# b"
    assert headings["b/c.py"] == "# b.c"


def test_choice_fills_but_never_exceeds_the_limit(tree):
    one = choose_modules(10**6, tree)[0].num_bytes
    for limit in (0, one - 1, 2 * one, 3 * one + 100):
        modules = choose_modules(limit, tree)
        assert sum(module.num_bytes for module in modules) <= limit
    assert len(choose_modules(3 * one + 100, tree)) == 3  # the big one between them is passed over


def test_held_out_does_not_follow_the_order_of_choice():
    modules = choose_modules(3 * 10**6)
    held = [module.held_out(0.3) for module in modules]
    assert len(modules) > 50
    # Near 0.3 in both halves: with the same bits for both choices, the first ones alone would be held out.
    half = len(held) // 2
    assert 0.05 < np.mean(held[:half]) < 0.6
    assert 0.05 < np.mean(held[half:]) < 0.6
    assert not any(module.held_out(0) for module in modules)
    assert all(module.held_out(1) for module in modules)
