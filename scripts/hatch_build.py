"""Puts the studies of sweeps/ into the wheel; an editable install reads them from the checkout."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StudiesHook(BuildHookInterface):
    """Hatchling finds the one subclass of its interface in this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds each study as `mmhydra/studies/NAME.yaml`."""
        if version == "editable":
            return
        for study in sorted(Path(self.root, "sweeps").glob("*.yaml")):
            build_data["force_include"][str(study)] = f"mmhydra/studies/{study.name}"
