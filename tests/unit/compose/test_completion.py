"""`mmhydra VERB` and its shell completion, in a real bash, through the console script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmhydra import paths
from mmhydra.__main__ import VERBS

SCRIPT = Path(sys.executable).with_name("mmhydra")
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the console script is not installed")

# What readline does on TAB: each line is completed as bash would, and the replies are printed on one line each.
ASK = """
eval "$(mmhydra -sc install=bash)"
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE}
    COMPREPLY=()
    read -ra COMP_WORDS <<< "$COMP_LINE"
    [[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    hydra_bash_completion
    echo "${COMPREPLY[*]}"
done
"""


def complete(lines: list[str], folder: Path) -> tuple[list[list[str]], str]:
    """The replies for each line, and what was printed on standard error: it would be in the way of what one types."""
    environment = {**os.environ, "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK],
        input=("\n".join(lines) + "\n").encode(),
        env=environment,
        cwd=folder,
        capture_output=True,
    )
    replies = [line.split() for line in done.stdout.decode().splitlines()]
    assert len(replies) == len(lines), done.stderr.decode()
    return replies, done.stderr.decode()


def test_tab_in_a_real_bash(lab, tmp_path):
    debug = (paths.config_dir() / "model" / "debug.yaml").read_text()
    folder = lab({"model/mine.yaml": debug, "lab/long.yaml": "# @package _global_\ntag: x\n"})
    expected = {
        "mmhydra ": sorted(VERBS),
        "mmhydra tra": ["trace", "track", "train"],
        "mmhydra train mod": ["model.", "model="],
        "mmhydra train model=1": ["model=100m", "model=10b", "model=1b"],
        "mmhydra train tag=x optim.l": ["optim.lr="],
        "mmhydra train -m model=d": ["model=debug"],
        "mmhydra explain parallel=tp2p": ["parallel=tp2pp2"],
        f"mmhydra train --config-dir {folder} model=m": ["model=mine"],
        f"mmhydra train --config-dir={folder} +lab=": ["+lab=long"],
        f"mmhydra train model=m -cd {folder} model=m": ["model=mine"],
        "mmhydra diff model=d": [],
        "mmhydra train --conf": [],
        "mmhydra train --config-dir ": [],
        "mmhydra train --config-dir /nowhere model=d": ["model=debug"],
        "mmhydra train nope=": [],
    }
    replies, errors = complete(list(expected), tmp_path)
    assert {line: sorted(reply) for line, reply in zip(expected, replies, strict=True)} == expected
    assert errors == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_script_is_for_the_name_of_the_program(shell):
    done = subprocess.run([SCRIPT, "-sc", f"install={shell}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mmhydra" in done.stdout
    assert "__main__" not in done.stdout


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_is_its_module(verb, tmp_path):
    lines = [[SCRIPT, verb, "--help"], [sys.executable, "-m", f"mmhydra.{verb}", "--help"]]
    script, module = (subprocess.run(line, cwd=tmp_path, capture_output=True, text=True) for line in lines)
    assert (script.returncode, module.returncode) == (0, 0)
    assert script.stdout == module.stdout
    assert script.stderr == module.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["nope"], 2), (["--help"], 0), (["-h"], 0)])
def test_without_a_verb_all_are_listed(arguments, code):
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True)
    assert done.returncode == code
    assert [verb for verb in VERBS if f"  {verb} " not in done.stderr] == []


def test_the_exit_code_of_a_verb_is_that_of_the_program(tmp_path):
    done = subprocess.run([SCRIPT, "train", "modle=1"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: modle: no such key; did you mean model?\n"
