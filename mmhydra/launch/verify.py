"""Everything that can be told of a request before it costs anything: secrets and rules."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mmhydra.compose import Request, compose, known_clusters
from mmhydra.config import secrets
from mmhydra.config.data import Data
from mmhydra.config.explain import COMMAND_LINE
from mmhydra.config.facts import Facts
from mmhydra.config.frozen import flatten
from mmhydra.config.problems import ConfigError, tell
from mmhydra.config.rules import check
from mmhydra.config.tokens import Tokens
from mmhydra.data.datasets import absent, load, token_counts
from mmhydra.data.shards.manifest import Manifest
from mmhydra.errors import UserError


def verified(points: Sequence[Sequence[str]], config_dirs: Sequence[Path]) -> list[Request]:
    """The requests of all points of a command line, composed and checked.

    Raises UserError with all problems of all points: nothing starts unless every point may.
    """
    requests, faults = [], []
    for number, overrides in enumerate(points, 1):
        try:
            refuse_secret_overrides(overrides)
            requests.append(compose(overrides, config_dirs))
            verify(requests[-1])
        except UserError as error:
            name = "" if isinstance(error, secrets.SecretError) else f" ({' '.join(overrides)})"
            faults.append((f"point {number}{name}", error))
    refuse_points(faults, len(points))
    return requests


def refuse_points(faults: Sequence[tuple[str, UserError]], num_points: int) -> None:
    """Raises UserError with all that was found, each under the name of its point; that of a single point as it is.

    Points of the same fault stand together, and its text is told once.
    """
    if num_points == 1 and faults:
        raise faults[0][1]
    if faults:
        together: dict[str, list[str]] = {}
        for point, error in faults:
            together.setdefault(str(error), []).append(point)
        lines = [
            line
            for error, (first, *others) in together.items()
            for line in (f"{first}: {error}", *(f"{point}: the same" for point in others))
        ]
        raise UserError("\n".join([f"{len(faults)} of {num_points} points can't run, so none is started", *lines]))


def say_on_stderr(text: str) -> None:
    """A note or a warning of a single run."""
    print(text, file=sys.stderr)


def verify(
    request: Request,
    known: Callable[[Request], Facts] | None = None,
    refuse: Callable[[Request], None] | None = None,
    say: Callable[[str], None] = say_on_stderr,
) -> None:
    """Raises UserError with all problems of a request; says notes and warnings.

    A dry run whose cluster is only the default says what another cluster would cure as notes. `known` and `refuse`
    stand for `facts` and `refuse_secrets`, for whoever knows some of it from other requests.
    """
    for warning in request.warnings:
        say(f"warning: {warning}")
    (refuse or refuse_secrets)(request)
    problems = check(request.config, (known or facts)(request))
    eased = request.dry_run is not None and not request.cluster_is_explicit
    notes = [problem for problem in problems if problem.is_note or (eased and problem.placement)]
    for note in notes:
        say(f"note: {tell(note, None)}")
    refused = [problem for problem in problems if problem not in notes]
    if refused:
        raise ConfigError(refused, request.origins)


def verify_with_data(request: Request, manifests: Mapping[str, Manifest]) -> None:
    """The rules again, once the data is there: what it holds may be too little. Raises ConfigError."""
    found = check(request.config, Facts(known_clusters(request.config_dirs), token_counts(manifests)))
    problems = [problem for problem in found if not problem.is_note]
    if problems:
        raise ConfigError(problems, request.origins)


def refuse_secrets(request: Request) -> None:
    """Raises SecretError if a value or an override holds something secret. The secret itself is never printed."""
    leaves = {key: value for key, value in flatten(request.config.model_dump()).items() if isinstance(value, str)}
    refuse_secret_overrides(request.overrides)
    refuse_secret_options(request)
    secrets.refuse(
        finding._replace(place=_with_origin(finding.place, request)) for finding in secrets.find_in_values(leaves)
    )
    names = [key for key, value in leaves.items() if value.startswith(secrets.PREFIX) and not key.startswith("track.")]
    if names:
        raise secrets.SecretError(f"{', '.join(names)}: ${{secret:NAME}} is read by trackers alone; type a plain value")


def refuse_secret_options(request: Request) -> None:
    """Options of an object store by names that say what they hold; their values may look like anything.

    Raises SecretError.
    """
    store = request.config.loader.store
    named = [name for name in (store.options if store is not None else ()) if secrets.is_secret_name(name)]
    if named:
        places = ", ".join(_with_origin(f"loader.store.options.{name}", request) for name in named)
        raise secrets.SecretError(
            f"{places} would be written into the frozen config of the run. Secrets of a store come from the "
            "environment: leave it out, and set what its file system reads, for s3 AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )


def refuse_secret_overrides(overrides: Sequence[str]) -> None:
    """Before anything is composed: an error of a wrong value would repeat it. Raises SecretError."""
    named = {f"{override.partition('=')[0].lstrip('+')} ({COMMAND_LINE})": override for override in overrides}
    secrets.refuse(secrets.find_in_values(named))


def _with_origin(key: str, request: Request) -> str:
    """A key with the file and line that set it; of an override only that it is one."""
    settings = request.origins.provenance().settings(key)
    if not settings:
        return key
    is_override = settings[-1].layer.group == COMMAND_LINE  # which holds an interpolation
    return f"{key} ({COMMAND_LINE if is_override else settings[-1].where})"


def facts(request: Request) -> Facts:
    """The clusters there are, and the token counts of the data that is at hand; a start refuses data that is wrong."""
    config = request.config
    _, manifests = data_at_hand(config.data, config.tokens, Path(config.paths.data))
    return Facts(known_clusters(request.config_dirs), token_counts(manifests or {}))


def data_at_hand(data: Data, tokens: Tokens, folder: Path) -> tuple[list[str], dict[str, Manifest] | None]:
    """Names of the dataset versions that are not there, and the manifests of the others, None if those don't fit."""
    gone = absent(data, folder)
    there = [source for source in data.sources if source.dataset not in gone]
    if not there:
        return gone, {}
    with suppress(UserError):
        return gone, load(data.model_copy(update={"sources": there}), tokens, folder)
    return gone, None
