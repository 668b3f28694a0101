import sys
import warnings
from pathlib import Path

# Test modules import track_samples by name, whatever pytest's import mode.
sys.path.insert(0, str(Path(__file__).parent))

# Aim's first import warns of what it deprecates itself; warnings of ours stay errors.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import aim.sdk.run  # noqa: F401
