"""Whose fault a failed smoke test is, and the file of bad nodes."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmhydra.job.bad_nodes import exclude, exclude_file, excluded, faults, to_exclude
from mmhydra.job.report import NOT_RUN, Check, Report


def report(node: str, **wrong: str) -> Report:
    """All is well but for these checks."""
    names = ("config", "storage", "clock", "memory", "space", "data", "torch", "devices")
    return Report(node, 1.0, tuple(Check(name, name not in wrong, wrong.get(name, "fine"), 0.1) for name in names))


def reports(*found: Report) -> dict[str, Report]:
    return {one.node: one for one in found}


def test_none_is_bad():
    found = reports(report("n1"), report("n2"))
    assert (faults(["n1", "n2"], found), to_exclude(["n1", "n2"], found)) == ({}, [])


@pytest.mark.parametrize("check", ["devices", "data", "config"])
def test_one_of_two_is_bad_whatever_it_failed(check):
    found = reports(report("n1"), report("n2", **{check: "broken", "memory": "full"}))
    told = [f"{name}: {text}" for name, text in ((check, "broken"), ("memory", "full"))]
    assert sorted(faults(["n1", "n2"], found)["n2"].split("; ")) == sorted(told)
    assert to_exclude(["n1", "n2"], found) == ["n2"]


def test_all_are_bad_so_none_is_to_blame():
    found = reports(report("n1", devices="x"), report("n2", devices="x"))
    assert to_exclude(["n1", "n2"], found) == []
    assert to_exclude(["n1", "n2"], {}) == []


def test_a_node_that_hung_has_no_report_and_is_bad():
    found = reports(report("n1"))
    assert faults(["n1", "n2"], found) == {"n2": "it gave no report"}
    assert to_exclude(["n1", "n2"], found) == ["n2"]


@pytest.mark.parametrize("check", ["config", "storage", "space", "data"])
def test_the_only_node_is_not_blamed_for_what_all_share(check):
    assert to_exclude(["n1"], reports(report("n1", **{check: "broken"}))) == []


@pytest.mark.parametrize("check", ["clock", "memory", "devices", "torch"])
def test_the_only_node_is_blamed_for_its_own(check):
    assert to_exclude(["n1"], reports(report("n1", **{check: "broken"}))) == ["n1"]


def test_the_only_node_is_not_blamed_for_checks_that_came_too_late():
    assert to_exclude(["n1"], reports(report("n1", data="gone", devices=f"{NOT_RUN}: no time left"))) == []


def test_without_any_answer_nobody_is_to_blame():
    assert to_exclude(["n1"], {}) == []
    assert to_exclude(["n1", "n2"], {}) == []


def test_the_file_is_the_cluster_s_own_or_the_site_s(make_job_run, tmp_path):
    assert exclude_file(make_job_run().config) == tmp_path / "outputs" / ".cluster" / "slurm_dev" / "exclude"
    assert exclude_file(make_job_run(exclude_file="/site/bad").config) == Path("/site/bad")


def test_people_may_write_into_it(tmp_path):
    file = tmp_path / "exclude"
    assert excluded(file) == []
    file.write_text("# ours\n\n  n3  \nn1 # broken fan\nn3\n#n4\n")
    assert excluded(file) == ["n3", "n1"]


def test_a_node_is_added_once_with_time_run_and_reason_in_one_line(make_job_run):
    run = make_job_run()
    attempt, file = run.directory.attempts[0], exclude_file(run.config)
    exclude(run.config, attempt, {"n2": "devices: broken\nnode down"})
    exclude(run.config, attempt, {"n2": "again", "n3": "it gave no report"})
    first, second = file.read_text().splitlines()
    assert first.startswith("n2  # 20")
    assert first.endswith("+00:00 0123456789ab attempt 1: devices: broken node down")
    assert second.startswith("n3  # ")
    assert excluded(file) == ["n2", "n3"]


def test_a_last_line_without_its_end_is_not_grown(make_job_run):
    run = make_job_run()
    file = exclude_file(run.config)
    file.parent.mkdir(parents=True)
    file.write_text("n1")
    exclude(run.config, run.directory.attempts[0], {"n2": "x"})
    assert excluded(file) == ["n1", "n2"]


WRITER = """
import sys
from pathlib import Path
from mmhydra.job.bad_nodes import exclude
from mmhydra.run.directory import Attempt
attempt = Attempt(Path(sys.argv[1]))
config = attempt.read_frozen()[0]
sys.stdin.readline()
exclude(config, attempt, {"n2": "x", "n3": "y"})
"""


def test_of_processes_that_find_the_same_node_one_writes_it(make_job_run):
    run = make_job_run()
    command = [sys.executable, "-c", WRITER, str(run.directory.attempts[0].path)]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(4)]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=30)
    assert [writer.returncode for writer in writers] == [0] * 4
    assert len(exclude_file(run.config).read_text().splitlines()) == 2
