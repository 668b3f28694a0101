"""Every shipped cell, model x parallel x precision x cluster x data: legal, or illegal with its reasons.

The table is golden; `make golden` writes it anew. A cell is put together from what Hydra composes for its parts:
`parallel` and `cluster` files set their own section only, so one composition serves all choices of those two. A random
sample is composed whole, to hold that.
"""

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
import yaml
from golden_files import Golden

from mmhydra import paths
from mmhydra.compose import compose, known_clusters
from mmhydra.config.facts import Facts
from mmhydra.config.frozen import to_yaml
from mmhydra.config.rules import RULES, check
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import to_run_config

AXES = ("model", "parallel", "precision", "cluster", "data")
SAMPLE = 24  # cells that are composed whole, too


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (paths.config_dir() / group).glob("*.yaml"))


def section(group: str, choice: str) -> dict[str, object]:
    """A file that sets its own section only."""
    text = (paths.config_dir() / group / f"{choice}.yaml").read_text()
    assert "@package" not in text, f"{group}/{choice} sets more than its section; compose it for each cell"
    document = yaml.safe_load(text)
    assert "defaults" not in document
    return document


def resolved_section(group: str, choice: str) -> dict[str, object]:
    """The same, with what it takes from the folders and the environment."""
    section(group, choice)
    return compose([f"{group}={choice}"]).config.model_dump()[group]


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, ...], RunConfig]:
    """The config of each cell, by its choices in the order of AXES."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MMHYDRA_CLUSTER", raising=False)
        patch.delenv("SLURM_CONF", raising=False)
        patch.setenv("MMHYDRA_DATA", "/data")
        patch.setenv("MMHYDRA_OUTPUTS", "/outputs")
        found = {}
        parallels = {name: section("parallel", name) for name in choices("parallel")}
        clusters = {name: resolved_section("cluster", name) for name in choices("cluster")}
        for model, precision, data in itertools.product(choices("model"), choices("precision"), choices("data")):
            tree = compose([f"model={model}", f"precision={precision}", f"data={data}"]).config.model_dump()
            for parallel, cluster in itertools.product(parallels, clusters):
                cell = (model, parallel, precision, cluster, data)
                found[cell] = to_run_config(tree | {"parallel": parallels[parallel], "cluster": clusters[cluster]})
        return found


@pytest.fixture(scope="module")
def verdicts(cells: dict[tuple[str, ...], RunConfig]) -> dict[tuple[str, ...], list[str]]:
    """The rules that refuse each cell, each once; empty for a legal one."""
    facts = Facts(known_clusters())
    return {
        cell: list(dict.fromkeys(problem.rule for problem in check(config, facts) if not problem.is_note))
        for cell, config in cells.items()
    }


def test_the_table_of_all_cells(verdicts: dict[tuple[str, ...], list[str]], golden: Golden) -> None:
    """One line a model, mesh, precision and cluster; the data stands only where the verdicts differ by it."""
    lines = []
    for *cell, _ in itertools.product(*(choices(axis) for axis in AXES[:-1]), [None]):
        by_data = {data: ", ".join(verdicts[(*cell, data)]) or "legal" for data in choices("data")}
        alike = len(set(by_data.values())) == 1
        for data, verdict in by_data.items():
            lines.append(f"{' '.join(cell)} {'*' if alike else data}: {verdict}\n")
            if alike:
                break
    golden("cells.txt", f"{' '.join(AXES)}: legal, or the rules that refuse it\n{''.join(lines)}")


def test_the_reasons_of_all_illegal_cells(cells: dict[tuple[str, ...], RunConfig], golden: Golden) -> None:
    """Each message once, with the number of cells that it refuses."""
    facts = Facts(known_clusters())
    found = Counter(
        f"{problem.rule}: {problem}"
        for config in cells.values()
        for problem in check(config, facts)
        if not problem.is_note
    )
    golden("cell_reasons.txt", "".join(f"{count} cells, {text}\n" for text, count in sorted(found.items())))


def test_every_model_mesh_and_precision_has_a_legal_cell(verdicts: dict[tuple[str, ...], list[str]]) -> None:
    legal = [cell for cell, rules in verdicts.items() if not rules]
    for index, axis in enumerate(AXES):
        assert {cell[index] for cell in legal} == set(choices(axis)), axis


def test_the_mission_is_legal_on_its_cluster_alone(verdicts: dict[tuple[str, ...], list[str]]) -> None:
    rules = {
        cluster: verdicts["10b", "tp4pp8", "float8_rowwise", cluster, "mix_v0.2"] for cluster in choices("cluster")
    }
    assert rules["h100_256"] == []
    assert rules["local"] == ["world_size", "float8"]


def test_every_rule_that_choices_alone_can_break_is_in_the_table(verdicts: dict[tuple[str, ...], list[str]]) -> None:
    seen = {rule for rules in verdicts.values() for rule in rules}
    assert seen >= {"world_size", "stages", "microbatches", "float8"}
    assert seen <= {rule.__name__ for rule in RULES}


def test_a_random_sample_composed_whole_is_the_same(cells: dict[tuple[str, ...], RunConfig], monkeypatch) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", "/data")
    monkeypatch.setenv("MMHYDRA_OUTPUTS", "/outputs")
    for cell in random.Random(0).sample(sorted(cells), SAMPLE):
        whole = compose([f"{axis}={choice}" for axis, choice in zip(AXES, cell, strict=True)]).config
        assert to_yaml(whole) == to_yaml(cells[cell])


def test_a_cell_that_is_illegal_says_which_values_are_legal(cells: dict[tuple[str, ...], RunConfig]) -> None:
    """Each message names a value or a command to type."""
    facts = Facts(known_clusters())
    messages = {problem.message for config in cells.values() for problem in check(config, facts)}
    words = ("type ", "legal", "use ", "lower ", "choose ", "no known cluster fits", "leave")
    assert [message for message in messages if not any(word in message for word in words)] == []


def test_the_axes_are_groups() -> None:
    assert all((Path(paths.config_dir()) / axis).is_dir() for axis in AXES)
