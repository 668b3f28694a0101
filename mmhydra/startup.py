"""Settings that make a short command short. Imported first by it, before pydantic and Hydra."""

import gc
import os

# Importing and composing allocate much and free nothing: collecting was a tenth of a dry run.
gc.disable()

# pydantic would search all installed packages for plugins; we use none.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def finished() -> None:
    """Collects again from here on; what exists by now stays out of it."""
    gc.freeze()
    gc.enable()
