"""Carries out a build from its recipe to the finished folder."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from mmhydra.config.dataset import BuildConfig
from mmhydra.data.build.finish import finish
from mmhydra.data.build.outside import require_outside
from mmhydra.data.build.plan import (
    BYTES_PER_BATCH,
    ENCODE,
    READ,
    RECORDS_PER_BATCH,
    Batch,
    BuildError,
    Context,
    read_counts,
)
from mmhydra.data.build.pool import run_tasks
from mmhydra.data.build.recipe import inputs, require_sound, settings_of
from mmhydra.data.build.shard_stage import ShardPlan, few, plan_shards, write_shard
from mmhydra.data.build.start import finished, require_same_inputs, require_same_records, start
from mmhydra.data.build.tally import Tally
from mmhydra.data.build.tokenizer import make_tokenizer
from mmhydra.data.build.verdicts import judge_all
from mmhydra.data.dataset_folder import build_once
from mmhydra.data.records.batches import list_files, scan
from mmhydra.data.shards.manifest import Manifest, Shard
from mmhydra.data.vocabulary import Vocabulary
from mmhydra.paths import short

# A stage's name, how much of it is done, of how much; called after each task.
OnProgress = Callable[[str, int, int], None]


def build_dataset(
    config: BuildConfig, on_line: Callable[[str], None], on_progress: OnProgress = lambda stage, done, total: None
) -> Manifest:
    """Builds a dataset version below `paths.data`, or returns the one of the same recipe that is there.

    `on_line` gets a line at each stage, `on_progress` figures for a progress bar. A build that was killed goes on
    where it stopped. Raises UserError for what is wrong with recipe, records or folder, BuildInterrupted where the
    same command may help.
    """
    recipe = config.dataset
    require_sound(recipe, config.tokens)
    settings = settings_of(recipe, config.tokens)
    processes = config.build.processes
    number = len(os.sched_getaffinity(0)) if processes == "auto" else processes
    folder = Path(config.paths.data).absolute() / recipe.name
    driver = _Driver(config, settings, number, on_line, on_progress)
    manifest = build_once(folder, settings, driver.build, on_line)
    if not driver.has_built:
        on_line(f"{short(folder)} is there already, made by this recipe")
        require_same_records(recipe, folder, manifest)
    return manifest


class _Driver:
    def __init__(
        self,
        config: BuildConfig,
        settings: Mapping[str, JsonValue],
        processes: int,
        on_line: Callable[[str], None],
        on_progress: OnProgress,
    ) -> None:
        self._config, self._settings, self._processes = config, settings, processes
        self._on_line, self._on_progress = on_line, on_progress
        self.has_built = False

    def build(self, building: Path) -> Manifest:
        """Fills a folder, which may hold what an earlier start left."""
        self.has_built = True
        recipe = self._config.dataset
        records = building / "stages" / "records" if recipe.generate else Path(recipe.records_dir or ".").absolute()
        context = Context(recipe, self._config.tokens, records, building)
        manifest = finished(context, self._settings)
        if manifest is None:
            require_outside(recipe, self._config.tokens)
            start(context, self._settings, self._on_line)
            manifest = self._carry_out(context)
        shutil.rmtree(context.work, ignore_errors=True)
        return manifest

    def _carry_out(self, context: Context) -> Manifest:
        files = inputs(context)
        require_same_inputs(context, files)
        batches = _batches(context)
        self._stage("reading and filtering records", "read_stage", READ, context, batches, batches)
        verdicts = judge_all(context, batches)
        _require_some(context, batches, READ, verdicts.tallies)
        make_tokenizer(context, batches, verdicts, self._on_line)
        tasks = list(zip(batches, verdicts.splits, strict=True))
        self._stage("encoding documents", "encode_stage", ENCODE, context, batches, tasks)
        _require_some(context, batches, ENCODE, verdicts.tallies)
        shards = self._shards(context, plan_shards(context, batches))
        return finish(context, self._settings, files, batches, verdicts, shards, self._on_line)

    def _stage(
        self, title: str, module: str, stage: str, context: Context, batches: Sequence[Batch], tasks: Sequence[Any]
    ) -> None:
        """Carries out what is left of a stage, one task for each batch."""
        left = [task for batch, task in zip(batches, tasks, strict=True) if not batch.is_done(context, stage)]
        done = len(tasks) - len(left)
        number = min(self._processes, max(1, len(left)))
        self._on_line(f"{title} with {number} process{'es' if number > 1 else ''}")
        self._on_progress(title, done, len(tasks))
        for _ in run_tasks(f"mmhydra.data.build.{module}", context, left, number):
            done += 1
            self._on_progress(title, done, len(tasks))

    def _shards(self, context: Context, plans: Sequence[ShardPlan]) -> list[Shard]:
        title = "writing shards"
        self._on_line(title)
        self._on_progress(title, 0, len(plans))
        if few(plans):  # no more than a process takes to start
            vocabulary = Vocabulary.of(context.tokens)
            written: Iterable[Shard] = (write_shard(context, vocabulary, plan) for plan in plans)
        else:
            written = run_tasks("mmhydra.data.build.shard_stage", context, plans, self._processes)
        shards = []
        for shard in written:
            shards.append(shard)
            self._on_progress(title, len(shards), len(plans))
        return shards


def _batches(context: Context) -> list[Batch]:
    """The tasks of the first stages, in the order of recipe and records."""
    batches: list[Batch] = []
    for source in context.recipe.sources:
        refs = scan(list_files(source.records, context.records), RECORDS_PER_BATCH, max_batch_bytes=BYTES_PER_BATCH)
        batches += [Batch(source.name, number, ref) for number, ref in enumerate(refs)]
    return batches


def _require_some(context: Context, batches: Sequence[Batch], stage: str, judged: Mapping[str, Tally]) -> None:
    """Raises BuildError for a source of which a stage has left nothing: it says which reasons took the records."""
    for source in context.recipe.sources:
        own = [batch for batch in batches if batch.source == source.name]
        total = Tally()
        for name in dict.fromkeys((READ, stage)):
            for batch in own:
                total.merge(Tally(read_counts(batch.file(context, name, ".json"))))
        total.merge(judged.get(source.name, Tally()))
        if total.accepted > 0:
            continue
        reasons = ", ".join(f"{name} {count:,}" for name, count in sorted(total.flat["rejected"].items()))
        folder = short(context.work / stage / source.name)
        where = f". What was wrong with each is in {folder}/*.rejects.jsonl" if own else ""
        raise BuildError(
            f"no record of source {source.name} is left of {total.records:,}: {reasons or 'its files are empty'}{where}"
            "; change dataset.filters, dataset.limits, the source's templates or the records"
        )
