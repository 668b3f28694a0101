"""How often SLURM is asked of the jobs of a sweep."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace

import pytest

from mmhydra.slurm import SchedulerError
from mmhydra.sweep.state import asking
from mmhydra.sweep.state.asking import BulkAsker

INTERVAL_S = 10.0


class Place:
    """A clock, and a SLURM that notes what it is asked and can be away."""

    def __init__(self) -> None:
        self.now = 100.0
        self.questions: list[str] = []
        self.is_away = False

    def states(self, job_ids: Iterable[str]) -> dict[str, None]:
        asked = list(job_ids)
        self.questions.append(" ".join(asked))
        if self.is_away:
            raise SchedulerError("no answer")
        return dict.fromkeys(asked)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place()
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: place.now))
    monkeypatch.setattr(asking, "scheduler", lambda conf, timeout_s: place)
    return place


@pytest.fixture
def ask(place: Place) -> Callable[..., object]:
    """Asks of one set of jobs after another, as a driver does once a second."""
    asker = BulkAsker(INTERVAL_S)

    def ask(*sets: str, at: float) -> list[object]:
        place.now = 100.0 + at
        return [asker(None, jobs.split()) for jobs in sets]

    return ask


def test_sets_of_jobs_that_are_asked_of_in_turn_are_one_question(place, ask):
    for second in range(10):
        answers = ask("1", "2", at=second)
        assert "1" in answers[0]
        assert "2" in answers[1]
    assert place.questions == ["1", "1 2"]
    ask("1", "2", at=11)
    assert place.questions == ["1", "1 2", "1 2"], "the next question is of both"


def test_a_slurm_that_is_away_is_asked_no_more_often(place, ask):
    place.is_away = True
    for second in range(10):
        assert all(isinstance(answer, SchedulerError) for answer in ask("1", "2", at=second))
    assert place.questions == ["1", "1 2"]


def test_jobs_that_nobody_wants_any_more_are_not_asked_of(place, ask):
    ask("1 2", at=0)
    ask("2", "3", at=9)
    ask("3", at=19)
    assert place.questions == ["1 2", "1 2 3", "3"]


def test_without_an_interval_each_question_is_put_as_it_is(place):
    asker = BulkAsker()
    for jobs in (["1"], ["2"], ["1"]):
        assert asker(None, jobs) == dict.fromkeys(jobs)
    assert place.questions == ["1", "2", "1"]


def test_each_slurm_is_asked_of_its_own_jobs(place):
    asker = BulkAsker(INTERVAL_S)
    asker("a.conf", ["1"])
    asker("b.conf", ["2"])
    assert place.questions == ["1", "2"]
