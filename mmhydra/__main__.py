"""`mmhydra VERB ...`, the same as `python -m mmhydra.VERB ...`."""

import runpy
import sys

VERBS = {
    "train": "compose, check, freeze and run: mmhydra train model=debug",
    "checkpoint": "show, verify or diff checkpoints",
    "track": "replay an attempt's metrics into Aim or TensorBoard",
}


def main() -> int:
    """Runs the verb; 2 for an unknown one."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in VERBS:
        lines = [f"  {name:12} {text}" for name, text in VERBS.items()]
        print("\n".join(["usage: mmhydra VERB ...", *lines]), file=sys.stderr)
        return 0 if verb in ("-h", "--help") else 2
    sys.argv[:2] = [f"mmhydra {verb}"]
    runpy.run_module(f"mmhydra.{verb}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
