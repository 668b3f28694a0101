"""Tests of a lab's own config groups: what they set, what they can be combined with, and what refuses them."""

import pytest

LONGER = ("model=tiny", "+lab=long_context")


@pytest.mark.overrides("model=tiny")
def test_warmup_is_a_tenth_of_the_run(run_config):
    """A property that holds for each model: try it with --override model=1b."""
    assert run_config.optim.warmup_steps <= run_config.training.num_steps / 10


@pytest.mark.overrides("model=tiny")
class TestLongContext:
    """The nearest marker wins, and --override wins over all markers."""

    @pytest.mark.overrides("+lab=long_context")
    def test_a_batch_stays_small(self, run_config):
        """Our group trades sequences for their length."""
        assert run_config.training.seq_len == 1024
        assert run_config.training.tokens_per_step < 4096

    @pytest.mark.overrides("model=debug", "+lab=long_context")
    def test_it_wins_over_what_another_model_says(self, run_config):
        """The marker of the function replaces the model of the class."""
        assert run_config.training.seq_len == 1024


def test_legal(config_check):
    """All rules are asked, and the config is returned."""
    assert config_check.legal(*LONGER).training.global_batch_size == 2


def test_illegal(config_check):
    """Refused for the reason that is meant: the name of a rule, or words of the message."""
    config_check.illegal("model=tiny", "parallel=tp2", because="tp_shards")
    config_check.illegal(*LONGER, "parallel=fsdp", "parallel.dp=4", because=r"no multiple of dp 4")
    config_check.illegal("model=tinny", because=r"did you mean model=tiny\?")
