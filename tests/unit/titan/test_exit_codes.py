"""What a rank ends with says whether starting it again can help."""

import pytest

from mmhydra.data.datasets import DataError
from mmhydra.data.storage.faults import BadChunk, ChunkFault
from mmhydra.errors import ExitCode, NotFinite
from mmhydra.titan.job import _exit_code

BAD = BadChunk("made", "shards/web.tar", 3, "it has another hash than when it was written", 0, 5)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ChunkFault(BAD, "damaged"), ExitCode.CONFIG),
        (ChunkFault(BAD, "no answer", passing=True), ExitCode.FAILED),
        (DataError("too often"), ExitCode.CONFIG),
        (NotFinite("nan"), ExitCode.STOPPED),
        (RuntimeError("anything else"), ExitCode.FAILED),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, code: ExitCode) -> None:
    assert _exit_code(error) is code
