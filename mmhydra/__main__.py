"""`mmhydra VERB ...`, the same as `python -m mmhydra.VERB ...`; and shell completion for it."""

import importlib
import os
import runpy
import sys

VERBS = {
    "train": "compose, check, freeze and run: mmhydra train model=debug",
    "explain": "who set each value of a command line, and what it replaced",
    "diff": "what differs between two runs, checkpoints, command lines or revisions of conf/",
    "status": "how a run or a sweep is, how it came here, what to type next",
    "logs": "what a run prints, also while it runs",
    "cancel": "end the SLURM job of a run, or all jobs of a sweep",
    "drive": "go on with a search, or with stages that wait for the best of those before",
    "report": "a sweep as one HTML page: its points, curves and parallel coordinates",
    "trace": "which samples a step was made of, and which steps see a record",
    "drill": "break something under a run on the development SLURM, and measure the recovery",
    "checkpoint": "show, verify or diff checkpoints",
    "track": "replay an attempt's metrics into Aim or TensorBoard",
}
_COMPLETES = ("train", "explain")  # verbs that take overrides
_FOLDER = ("--config-dir", "-cd")
_COMPLETION = ("-sc", "--shell-completion")


def main() -> int:
    """Runs the verb; 2 for an unknown one."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb in _COMPLETION:
        return complete()
    if verb not in VERBS:
        lines = [f"  {name:12} {text}" for name, text in VERBS.items()]
        complete_line = '  completion   eval "$(mmhydra -sc install=bash)"'
        print("\n".join(["usage: mmhydra VERB ...", *lines, complete_line]), file=sys.stderr)
        return 0 if verb in ("-h", "--help") else 2
    sys.argv[:2] = [f"mmhydra {verb}"]
    runpy.run_module(f"mmhydra.{verb}", run_name="__main__", alter_sys=True)
    return 0


def complete() -> int:
    """Answers the shell. Hydra completes overrides; the verb before them is ours, so it is taken out of the line."""
    program, *words = os.environ.get("COMP_LINE", "").split(" ")
    if words and words[0] not in _COMPLETES:
        print(" ".join(VERBS) if len(words) == 1 else "")
        return 0
    if words and (words[-1].startswith("-") or words[-2] in _FOLDER):
        return 0  # a flag, or a folder, which the shell completes
    *before, last = _without_folder(words[1:]) or [""]
    os.environ["COMP_LINE"] = " ".join([program, *(word for word in before if not word.startswith("-")), last])
    # Not runpy: it would rename the program, and the shell's rule is for the program's name.
    return int(importlib.import_module("mmhydra.train").main())


def _without_folder(words: list[str]) -> list[str]:
    """The words but for `--config-dir FOLDER`, which this call is given instead."""
    rest: list[str] = []
    for word in words:
        flag, _, folder = word.partition("=")
        if flag in _FOLDER and folder:
            _use(folder)
        elif rest and rest[-1] in _FOLDER:
            rest.pop()
            _use(word)
        else:
            rest.append(word)
    return rest


def _use(folder: str) -> None:
    if os.path.isdir(folder):  # else it is being typed
        sys.argv += ["--config-dir", folder]


if __name__ == "__main__":
    sys.exit(main())
