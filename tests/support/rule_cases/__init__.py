"""Cases of every rule but those of SLURM, by subject: what breaks it and no other, and what is just inside."""

from typing import Any

from rule_cases import checkpoint, data, machines, model, parallel, paths, precision, schedule, training
from rule_cases.case import Case

CASES: dict[str, Case] = {}
NOTES: dict[str, tuple[dict[str, Any], str]] = {}  # changes that are only noted, and the rule that does
for part in (machines, training, model, parallel, precision, data, schedule, checkpoint, paths):
    assert CASES.keys().isdisjoint(part.CASES), part.__name__
    CASES |= part.CASES
for part in (training, parallel, precision, schedule):
    assert NOTES.keys().isdisjoint(part.NOTES), part.__name__
    NOTES |= part.NOTES
