"""Writes when each training step of a torchtitan Trainer begins, in whatever program that trainer runs.

Python imports this file by itself when its folder is on PYTHONPATH, so both arms of a comparison carry the same clock
and neither knows of it. It does nothing unless STEP_CLOCK_FILE names a file. There it writes, after the last step:

    {"starts": [one perf_counter reading per step, and one at the end], "cpu": [the same of this process's CPU time],
     "losses": [[step, loss, grad norm], ...]}

A step lasts from one start to the next: the trainer's step itself, metrics, checkpoint and validation included.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import time

_TRAINER = "torchtitan.trainer"


class _Watch(importlib.abc.MetaPathFinder):
    """Finds the trainer's module as usual and adds the clock once it is there."""

    def find_spec(self, name, path=None, target=None):
        if name != _TRAINER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def execute_then_add(module):
            execute(module)
            _add_clock(module.Trainer)

        spec.loader.exec_module = execute_then_add
        return spec


def _add_clock(trainer_class):
    """`should_continue_training` is asked once before each step and once after the last."""
    ask = trainer_class.should_continue_training
    starts, cpu, losses = [], [], []

    def ask_and_note(self):
        goes_on = ask(self)
        if not starts:
            _note_losses(self.metrics_processor, losses)
        starts.append(time.perf_counter())
        cpu.append(time.process_time())
        if not goes_on:
            with open(os.environ["STEP_CLOCK_FILE"], "w") as file:
                json.dump({"starts": starts, "cpu": cpu, "losses": losses}, file)
        return goes_on

    trainer_class.should_continue_training = ask_and_note


def _note_losses(metrics, losses):
    log = metrics.log

    def note_and_log(step, global_avg_loss, global_max_loss, grad_norm, **rest):
        losses.append([step, global_avg_loss, grad_norm])
        log(step, global_avg_loss, global_max_loss, grad_norm, **rest)

    metrics.log = note_and_log


if os.environ.get("STEP_CLOCK_FILE"):
    sys.meta_path.insert(0, _Watch())
