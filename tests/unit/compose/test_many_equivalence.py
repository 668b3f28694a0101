"""Points that are composed together are what stock composition makes of each, or are refused in the same words."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from override_lists import LAB, OverrideLists

from mmhydra.compose import Request, compose
from mmhydra.compose.many import Compiler, unlike
from mmhydra.config.frozen import to_yaml
from mmhydra.config.problems import ConfigError
from mmhydra.errors import UserError

EXAMPLES = int(os.environ.get("MMHYDRA_EXAMPLES", "2040"))
_CHUNKS = 12
_ASKED = ("name", "optim.lr", "model.dim", "training.steps", "cluster.slurm.account", "data.sources.0.weight")


def outcome(way: Callable[[Sequence[str]], Request], overrides: Sequence[str]) -> Request | tuple[str, str, object]:
    """A request, or the refusal with all that it says."""
    try:
        return way(overrides)
    except UserError as error:
        return type(error).__name__, str(error), error.problems if isinstance(error, ConfigError) else None


def differences(
    compiler: Compiler, overrides: Sequence[str], folders: Sequence[Path], *, thorough: bool
) -> tuple[str, list[str]]:
    """What a point came to, and how the ways of composing it differ.

    `thorough` also asks where values come from, and composes again what went the stock way by itself.
    """
    before = compiler.tiers.stock
    here = outcome(compiler.compose, overrides)
    if compiler.tiers.stock > before and not thorough:
        return "composed" if isinstance(here, Request) else "refused", []
    there = outcome(lambda texts: compose(texts, folders), overrides)
    if isinstance(here, Request) and isinstance(there, Request):
        found = unlike(here, there)
        if compiler.sections.to_yaml(here.config) != to_yaml(there.config):
            found.append("the frozen text")
        if thorough and here.origins.describe(_ASKED) != there.origins.describe(_ASKED):
            found.append("where values come from")
        return "composed", found
    return "refused", [] if here == there else [f"{here!r}", f"stock {there!r}"]


def compare(seed: int, number: int, lab: Path | None) -> tuple[Counter[str], list[str]]:
    """Composes so many points with one compiler."""
    folders = [lab] if lab else []
    compiler = Compiler(folders)
    counts: Counter[str] = Counter()
    faults = []
    for index, overrides in enumerate(OverrideLists(seed, lab).take(number)):
        kind, found = differences(compiler, overrides, folders, thorough=index % 8 == 0)
        counts[kind] += 1
        if found:
            faults.append("\n".join([repr(overrides), *found]))
    counts.update({f"tier {name}": points for name, points in vars(compiler.tiers).items()})
    return counts, faults


@pytest.mark.slow
def test_random_points_are_what_stock_composition_makes_of_them(tmp_path, monkeypatch):
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    lab = tmp_path / "lab"
    for name, text in LAB.items():
        (lab / name).parent.mkdir(parents=True, exist_ok=True)
        (lab / name).write_text(text)
    number = -(-EXAMPLES // _CHUNKS)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("fork")) as pool:
        runs = [pool.submit(compare, seed, number, lab if seed % 2 else None) for seed in range(_CHUNKS)]
        results = [run.result() for run in runs]
    counts = sum((counts for counts, _ in results), Counter())
    faults = [fault for _, found in results for fault in found]
    assert not faults, "\n\n".join([f"{len(faults)} of {EXAMPLES}", *faults[:20]])
    # It would prove nothing if all were refused, or if all went the stock way.
    for kind in ("composed", "refused", "tier values", "tier overrides", "tier stock"):
        assert counts[kind] > EXAMPLES // 12, counts
