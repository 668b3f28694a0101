"""Ctrl-C while a command is still being imported."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import builtins, os, runpy, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
usual = builtins.__import__

def interrupted(name, *rest, **more):
    if name == "mmhydra.errors":  # what every command imports, and few modules before it
        os.kill(os.getpid(), signal.SIGINT)
    return usual(name, *rest, **more)

builtins.__import__ = interrupted
sys.argv = ["command"]
runpy.run_module("mmhydra.{command}", run_name="__main__")
"""


@pytest.mark.parametrize("command", ["train", "status", "logs", "cancel", "report", "drive", "trace"])
def test_ctrl_c_during_the_imports_is_told_in_a_word(command: str) -> None:
    program = PROGRAM.replace("{command}", command)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr == "interrupted\n"
    assert done.returncode == -signal.SIGINT


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    program = "import mmhydra.startup; raise ValueError('ours')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("ValueError: ours\n")
