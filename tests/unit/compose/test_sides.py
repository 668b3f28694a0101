"""Ranks never run Hydra, and the submit side never waits for torch: seen in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmhydra

ROOT = str(Path(mmhydra.__file__).parent.parent)
COMPOSING = {"hydra", "omegaconf", "antlr4", "submitit", "mmhydra.compose", "mmhydra.hydra_app", "mmhydra.launch"}
TRAINING = {"torch", "torchtitan", "torchao", "mmhydra.titan", "mmhydra.worker"}
HEAVY = {"numpy", "tokenizers", "webdataset", "aim", "detect_secrets"}

RUN = """
import runpy, sys
sys.argv = {argv!r}
try:
    {code}
except SystemExit as end:
    assert not end.code, end.code
found = set({absent!r}) & set(sys.modules)
assert not found, found
"""


def process(code: str, absent: set[str], argv: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    source = RUN.format(argv=["program", *argv], code=code, absent=sorted(absent))
    environment = {**os.environ, "PYTHONPATH": ROOT}
    line = [sys.executable, "-c", source]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(folder.iterdir()) == []
    return done


@pytest.mark.slow
def test_the_job_side_has_no_hydra(tmp_path):
    process("import mmhydra.worker, mmhydra.titan.job", COMPOSING, (), tmp_path)


SUBMIT = [
    ("mmhydra.train", ("dry_run=config",)),
    ("mmhydra.train", ("-m", "dry_run=config", "tag=a")),
    ("mmhydra.train", ("--help",)),
    ("mmhydra.explain", ("optim",)),
]


@pytest.mark.parametrize(("module", "argv"), SUBMIT, ids=lambda value: str(value))
def test_the_submit_side_has_no_torch_nor_numpy(module, argv, tmp_path):
    process(f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)", TRAINING | HEAVY, argv, tmp_path)


def test_what_a_job_reads_needs_no_hydra(tmp_path):
    process("import mmhydra.config.frozen, mmhydra.run.directory, mmhydra.config.rules", COMPOSING, (), tmp_path)
