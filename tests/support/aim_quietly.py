"""Aim's first import warns of what it deprecates itself; warnings of ours stay errors."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import aim.sdk.run  # noqa: F401
