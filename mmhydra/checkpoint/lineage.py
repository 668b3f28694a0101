"""Whether a run may go on from the whole state of another: its stream so far has to be the one of the parent.

Otherwise its first sample would not be the one after the parent's last, and its ledger would count samples that nobody
saw. Weights alone (`checkpoint.init_from`) go with any stream.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from mmhydra.checkpoint.stamp import CheckpointError
from mmhydra.checkpoint.verify import Held
from mmhydra.config.schema import RunConfig
from mmhydra.config.stages import stages
from mmhydra.data.stream import ALGORITHM


def require_going_on(found: Held, config: RunConfig, manifests: Mapping[str, str]) -> None:
    """Checks a checkpoint that `config` extends, which has datasets with these digests of their manifests.

    Raises CheckpointError, with all differences and what to type, for another stream or a run that adds no step.
    """
    folder, step, training = found.folder, found.step, config.training
    cure = f"type checkpoint.init_from={folder} to start a run of its own from the weights alone"
    if found.stream_algorithm != ALGORITHM:
        raise CheckpointError(
            f"{folder} can't be extended: its stream is of version {found.stream_algorithm}, and version {ALGORITHM} "
            f"of this code puts samples in another order; {cure}"
        )
    if training.num_steps <= step:
        raise CheckpointError(
            f"{folder} has {step} steps already, training.steps={training.num_steps} adds none; "
            f"type training.steps={2 * step or 1} (steps count from the first run's start)"
        )
    there = _stream(found.config, step, found.manifests)
    here = _stream(config, step, manifests)
    lines = [
        f"  {key}: {there.get(key, 'absent')} there, {here.get(key, 'absent')} here"
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key)
    ]
    if lines:
        told = f"{folder} can't be extended: up to its step {step} this run would have read other samples"
        raise CheckpointError("\n".join([told, *lines, cure]))


class _Stretch(NamedTuple):
    """Steps first to last of a run. `changes_to` is the last step of a stage whose shares change, else 0."""

    first: int
    last: int
    start: dict[str, Fraction]
    end: dict[str, Fraction]
    changes_to: int

    @property
    def words(self) -> str:
        shares = ", ".join(
            f"{name} {float(share):.9g}" + (f" to {float(self.end[name]):.9g}" if self.changes_to else "")
            for name, share in sorted(self.start.items())
        )
        return f"{shares}, changing up to step {self.changes_to}" if self.changes_to else shares


def _stream(config: RunConfig, step: int, manifests: Mapping[str, str]) -> dict[str, str]:
    """By key, in words, what the samples of the first `step` steps follow from."""
    stretches = _stretches(config, step)
    read = {name for stretch in stretches for name in stretch.start}
    return {
        "training.seq_len": str(config.training.seq_len),
        "training.global_batch_size": str(config.training.global_batch_size),
        "seed.data": str(config.seed.data),
        "data.shuffle": str(config.data.shuffle).lower(),
        "data.window_chunks": str(config.data.window_chunks),
        **{f"shares in steps {own.first} to {own.last}": own.words for own in stretches},
        **{
            f"source {source.name}": f"{source.dataset} {manifests.get(source.dataset, '')[:12]}".rstrip()
            for source in sorted(config.data.sources, key=lambda source: source.name)
            if source.name in read
        },
    }


def _stretches(config: RunConfig, step: int) -> list[_Stretch]:
    """The shares of the first `step` steps, sources without any left out; neighbours with equal constant ones are one.

    So a run without a schedule is a first stage of the same shares, however long either is.
    """
    found: list[_Stretch] = []
    for span in stages(config):
        if not span.num_steps or span.first_step > step:
            continue
        names = [name for name in span.start if span.start[name] or span.end[name]]
        start, end = ({name: edge[name] for name in names} for edge in (span.start, span.end))
        last_step = span.end_step - 1
        own = _Stretch(span.first_step, min(last_step, step), start, end, last_step if start != end else 0)
        if found and not own.changes_to and not found[-1].changes_to and found[-1].end == start:
            own = own._replace(first=found.pop().first)
        found.append(own)
    return found
