"""RunConfig: everything that one run is, typed. No YAML, Hydra or OmegaConf object travels past it."""

from typing import Annotated

from mmhydra.config.base import Legacy, Name, NotIdentity, Section
from mmhydra.config.checkpoint import Checkpoint
from mmhydra.config.cluster import Cluster
from mmhydra.config.data import Data
from mmhydra.config.loader import LEGACY_LOADER, Loader
from mmhydra.config.model import Model
from mmhydra.config.optim import Optim
from mmhydra.config.parallel import Parallel
from mmhydra.config.precision import Precision
from mmhydra.config.tokens import Tokens
from mmhydra.config.track import Track
from mmhydra.config.training import Paths, Seed, Training


class RunConfig(Section):
    """The resolved config of one run, in the order in which it is printed and frozen."""

    name: Annotated[Name, NotIdentity("the folder below outputs/")]
    tag: str  # repeats a run on purpose: another tag, another run id
    seed: Seed
    training: Training
    model: Model
    parallel: Parallel
    precision: Precision
    optim: Optim
    tokens: Tokens
    data: Data
    loader: Annotated[
        Loader, NotIdentity("how samples are read; which ones they are is the data's"), Legacy(LEGACY_LOADER)
    ]
    cluster: Annotated[Cluster, NotIdentity("where and at what price it runs")]
    checkpoint: Checkpoint
    track: Annotated[Track, NotIdentity("who watches")]
    paths: Annotated[Paths, NotIdentity("folders; the manifests' digests are identity")]

    @property
    def evaluates(self) -> bool:
        """Whether the run takes no step: it only measures the held-out loss of weights that there are."""
        return self.training.steps == 0 and self.checkpoint.init_from is not None

    @property
    def dp(self) -> int:
        """Data-parallel degree, `auto` resolved against the cluster."""
        if self.parallel.dp != "auto":
            return self.parallel.dp
        gpus = self.cluster.num_gpus
        return 1 if gpus is None else max(1, gpus // self.parallel.model_ranks)

    @property
    def world_size(self) -> int:
        """Processes of the run: dp x tp x pp."""
        return self.dp * self.parallel.model_ranks

    @property
    def microbatch_size(self) -> int:
        """Sequences per data-parallel rank and forward pass; `auto` is the largest that fills the pipeline."""
        if self.training.microbatch_size != "auto":
            return self.training.microbatch_size
        per_rank = self.training.global_batch_size // self.dp
        fitting = (size for size in range(per_rank // self.parallel.pp, 1, -1) if per_rank % size == 0)
        return next(fitting, 1)

    @property
    def num_microbatches(self) -> int:
        """Microbatches of one optimizer step on one data-parallel rank."""
        return self.training.global_batch_size // (self.dp * self.microbatch_size)
