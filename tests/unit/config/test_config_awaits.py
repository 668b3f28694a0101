"""What the path of an awaited checkpoint names."""

import pytest

from mmhydra.config.checkpoint import Awaited, awaited


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/o/debug/3f83c51a9fd0/checkpoints/step-00000100", ("debug", "3f83c51a9fd0", 100)),
        ("/o/debug/3f83c51a9fd0/checkpoints/step-00000100/", ("debug", "3f83c51a9fd0", 100)),
        ("/a/b/c/1b-long/000000000000/checkpoints/step-123456789", ("1b-long", "000000000000", 123456789)),
        ("/debug/3f83c51a9fd0/checkpoints/step-00000000", ("debug", "3f83c51a9fd0", 0)),
        ("/3f83c51a9fd0/checkpoints/step-00000100", None),  # no name
        ("/o/debug/3f83c51a9fd0/checkpoints", None),
        ("/o/debug/3f83c51a9fd0/checkpoints/step-00000100/stamp.json", None),
        ("/o/debug/3f83c51a9fd0/checkpoints/step-100", None),
        ("/o/debug/3f83c51a9fd0/checkpoints/step-000000100", None),  # what no run calls it
        ("/o/debug/3f83c51a9fd/checkpoints/step-00000100", None),
        ("/o/debug/3F83C51A9FD0/checkpoints/step-00000100", None),
        ("/o/debug/3f83c51a9fd0/elsewhere/step-00000100", None),
        ("/step-00000100", None),
        ("", None),
    ],
)
def test_only_a_checkpoint_in_its_run_can_be_awaited(path, named):
    assert awaited(path) == (None if named is None else Awaited(*named))
