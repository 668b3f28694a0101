"""Whole files or none."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from mmhydra import files


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"ü": [1, None]})
    files.write_json(path, {"b": 2})
    assert json.loads(path.read_text()) == {"b": 2}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch, step):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise OSError("no")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from mmhydra.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(Path(sys.argv[1]), b"x" * 5000)
except OSError as error:
    sys.exit(7)
"""


def test_a_full_disk_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_no_number_that_is_none_gets_into_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_the_hash_of_a_file(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    assert files.sha256_of_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()
