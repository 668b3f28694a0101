"""Sinks by name. Their libraries are optional, so each module is imported only where its sink is built."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mmhydra.config.secrets import reveal
from mmhydra.track.sink import RunInfo, Sink, TrackError


@dataclass(frozen=True)
class _Kind:
    module: str
    class_name: str
    required: frozenset[str]
    optional: frozenset[str] = frozenset()


_KINDS = {
    "aim": _Kind("mmhydra.track.aim", "AimSink", frozenset({"repo"}), frozenset({"force_resume"})),
    "tensorboard": _Kind("mmhydra.track.tensorboard", "TensorBoardSink", frozenset({"logdir"})),
    "prometheus": _Kind("mmhydra.track.prometheus", "PrometheusSink", frozenset({"host", "port"}), frozenset({"rank"})),
}
_PATHS = frozenset({"repo", "logdir"})


def build_sinks(
    settings: Mapping[str, Mapping[str, Any] | None], run: RunInfo, attempt_dir: Path
) -> dict[str, Callable[[], Sink]]:
    """What builds each sink that is switched on, for a `Follower`.

    Nothing is imported or opened here; a library that is not installed is the builder's TrackError, which the
    follower reports like any other failure.

    Args:
        settings: by sink: aim {repo}, tensorboard {logdir, default `attempt_dir`/tensorboard}, prometheus
            {host, port}; None switches a sink off. A relative path starts at the current folder. A value
            `secret:NAME` is read from the environment variable NAME here, on the machine that uses it.
        run: what the sinks show.
        attempt_dir: folder of the attempt.

    Raises:
        TrackError: an unknown sink, or a setting that is unknown or missing.
    """
    builders: dict[str, Callable[[], Sink]] = {}
    for name, given in settings.items():
        if name not in _KINDS:
            raise TrackError(f"there is no sink {name!r}; sinks are: {', '.join(sorted(_KINDS))}")
        if given is None:
            continue
        told = {key: reveal(value) if isinstance(value, str) else value for key, value in given.items()}
        options = {"logdir": attempt_dir / "tensorboard", **told} if name == "tensorboard" else told
        _check(name, options)
        for key in _PATHS & options.keys():
            # Now, not in the thread: the working folder may change meanwhile.
            options[key] = Path(options[key]).expanduser().absolute()
        builders[name] = _builder(name, options, run)
    return builders


def _builder(name: str, options: dict[str, Any], run: RunInfo) -> Callable[[], Sink]:
    def build() -> Sink:
        kind = _KINDS[name]
        try:
            module = importlib.import_module(kind.module)
        except ImportError as exc:
            raise TrackError(f"sink {name} lacks its library ({exc}): pip install 'mmhydra[{name}]'") from exc
        return cast(Sink, getattr(module, kind.class_name)(run, **options))

    return build


def _check(name: str, options: Mapping[str, Any]) -> None:
    kind = _KINDS[name]
    legal = kind.required | kind.optional
    for key in options:
        if key not in legal:
            raise TrackError(f"sink {name} has no setting {key!r}; settings are: {', '.join(sorted(legal))}")
    missing = kind.required - options.keys()
    if missing:
        raise TrackError(f"sink {name} needs: {', '.join(sorted(missing))}")
