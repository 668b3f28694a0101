"""Random lists of overrides: such as people type, such as they mistype, and such as nobody would."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from mmhydra import paths
from mmhydra.compose import compose
from mmhydra.config.frozen import flatten
from mmhydra.config.typed import known_keys

# A folder of the user's own: files on files, interpolations of all kinds, missing values, files that speak of Hydra.
LAB = {
    "experiment/lab.yaml": "# @package _global_\ndefaults:\n  - override /model: 1b\n  - override /optim: adamw_wsd\n"
    '  - _self_\nname: ${model.name}-${optim.name}\ntag: "${seed.model}/${training.seq_len}"\n'
    "training: {steps: 400}\ncheckpoint: {interval: '${training.steps}'}\noptim: {min_lr: '${optim.lr}'}\n",
    "experiment/chained.yaml": "# @package _global_\nname: ${tag}\ntag: ${oc.env:NOT_SET,${model.name}}\n"
    "seed: {model: '${seed.data}', data: '${training.steps}'}\ntraining: {steps: 50}\n",
    "experiment/decoded.yaml": "# @package _global_\nseed: {model: '${oc.select:seed.data,3}'}\n"
    "training: {steps: '${oc.decode:\"12\"}', validation_interval: '${oc.select:nope,null}'}\n",
    "experiment/missing.yaml": "# @package _global_\ntraining: {steps: '???'}\nname: ${model.nope}\n",
    "experiment/shadow.yaml": "# @package _global_\nname: plain\nmodel: {dim: 256}\ntrack: {aim: null}\n",
    "experiment/of_hydra.yaml": "# @package _global_\nhydra: {job: {name: mine}}\n",
    "experiment/launched.yaml": "# @package _global_\ndefaults:\n  - override /hydra/launcher: basic\n  - _self_\n",
    "experiment/environment.yaml": "# @package _global_\ndefaults:\n  - override /hydra/env: mine\n  - _self_\n",
    "hydra/env/mine.yaml": "# @package _global_\ntag: of_hydra\n",
    "experiment/env_var.yaml": "# @package _global_\ndefaults:\n  - override /hydra/env: other\n  - _self_\n",
    "hydra/env/other.yaml": "# @package hydra.job\nenv_set: {A: b}\n",
    "experiment/resolver.yaml": "# @package _global_\nname: ${hydra:job.name}\n",
    "experiment/into_list.yaml": "# @package _global_\ndata: {sources: [{name: a, dataset: b, modality: text, "
    "weight: '${optim.lr}'}], schedule: '${tokens.special}'}\n",
    "model/wide.yaml": "defaults: [debug]\nname: wide\ndim: ${.num_heads}\nffn_dim: ${model.dim}\n",
    "model/relative.yaml": "defaults: [debug]\nname: relative\nnum_kv_heads: ${.num_heads}\n"
    "ffn_dim: ${..training.seq_len}\n",
    "optim/open.yaml": "defaults: [adamw_cosine]\nname: open\nlr: ???\n",
    "optim/blank.yaml": "{name: blank, lr: 0.1, min_lr: 1.0e-05, warmup_steps: 10, schedule: cosine, "
    "decay_fraction: null, beta1: 0.9, beta2: 0.95, eps: 1.0e-08, weight_decay: '???', clip_norm: '${.beta1}'}\n",
    "cluster/mine.yaml": "defaults: [h100_64]\nname: mine\n"
    "slurm: {account: '${oc.env:USER,nobody}', comment: '${name}'}\n",
    "cluster/borrowed.yaml": "defaults: [h100_64]\nbandwidth: ${cluster.peak_flops}\n",
    "lab/size/small.yaml": "num_layers: 2\nnum_heads: 2\n",
    "lab/size/global.yaml": "# @package _global_\ntraining: {global_batch_size: 32}\n",
    "lab/none.yaml": "{}\n",
}
LAB_CHOICES = ["+lab=none", "+lab/size=global", "+lab/size@model=small", "+lab/size=small", "lab/size=global"]
_SCALARS = r"""
1 2 3 8 64 100 4096 -1 0 0.5 1e-3 3e-4 -0.0 1e12 1_000 true false null auto '' '"1"' abc float32 wsd 1F1B full
nan inf a/b x:y 007 1e400 True ${name} ${model.dim} ${seed.data} ${training.steps} ${optim.lr} ${nope} ${.lr}
??? ${oc.env:HOME} ${oc.env:NOPE,7} ${oc.select:seed.data} ${hydra:job.name} ${eval:1} a${model.name}b
\${name} [] {} [1,2] {a:1} ${model} int(3) 1,2 range(1,3) ${oc.create:[1]} ${training.${tag}}
"""
_ODD = r"""
model@other=1b model@=1b track@track=aim @x=1 a.b.c=1 +a.b.c=1 optim.lr.x=1 +optim.lr.x=1 ++optim.lr.x=1 .=1
a..b=1 model/debug=1 hydra.run.dir=x hydra/launcher=basic hydra.searchpath=[] +hydra.x=1 defaults=[]
+defaults=[model] resume=null extend=null resume=nowhere dry_run=config dry_run=x confirm=true confirm=1
+confirm=true code=frozen ~confirm ~name ~model ~model=debug ~model=1b ~track ~experiment ~cluster=local
~optim ~optim.lr ~optim.lr=1 ~nope ~data.sources ~data.sources.0 ~data.sources[1] ~cluster.slurm ~track.aim
~model.dim +model=1b ++model=1b +track=aim track=[jsonl,aim] track=[aim,prometheus,tensorboard] track=[]
track=aim track=[nope] model=[1b,10b] model=null model={dim:64} track={aim:null} +experiment=p0_demo
experiment=[p0_demo] codec=video_demo dataset=demo-v2 data.sources.0.weight=2 data.sources[0].weight=2
data.sources.1.name=x data.sources.17.name=x data.sources=[] data.sources.0={name:a} tokens.special.0=x
tokens.special[0]=y tokens.special=[a,b] +tokens.special.99=x tokens.codebooks={image:2}
+tokens.codebooks.extra=1 ++tokens.codebooks.image=3 tokens.codebooks.image=4 cluster.slurm={account:x}
cluster.slurm.account=me +cluster.slurm.environment.A=b ++cluster.slurm.environment.A=b
cluster.slurm.environment={A:b} +cluster.slurm.additional_parameters.reservation=x cluster.slurm.setup=[ls]
cluster.peak_flops={bf16:1.0} ++cluster.peak_flops.bf16=2.0 track.aim.repo=/tmp track.aim=null
+track.aim.repo=x track.prometheus={port:1} training={steps:3} ++training={steps:3} ++optim.lr=0.1
++seed={model:7} +seed.other=1 paths.outputs=/a/b paths.data=${paths.outputs}/data name=${tag} tag=${name}
checkpoint.remote={url:x,every_hours:1.0} checkpoint.remote.url=s3://b checkpoint.remote.every_hours=2.0
model.dim=${.num_heads} seed=${oc.create:{a:1}} bandwidth.memory=1 cluster.bandwidth.memory=1.0
++cluster.bandwidth.memory=2.0 seed.model=a=b tag= tag='' tag=\\
"""


class OverrideLists:
    """Draws lists of overrides. `lab` is a folder with the files of LAB, or None for conf/ alone."""

    def __init__(self, seed: int, lab: Path | None) -> None:
        self._random = random.Random(seed)
        folders = [paths.config_dir(), *([lab] if lab else [])]
        groups = {*known_keys(), "experiment"}
        self._choices = sorted(
            f"{file.parent.name}={file.stem}"
            for folder in folders
            for file in folder.glob("*/*.yaml")
            if file.parent.name in groups
        )
        self._scalars = [*_SCALARS.split(), "'a b'", "a b"]
        self._odds = _ODD.split()
        self._lab_choices = LAB_CHOICES if lab else []
        self._values = {
            key: value
            for choice in ("model=debug", "cluster=h100_64", "checkpoint=three_two_one", "track=[aim,prometheus]")
            for key, value in flatten(compose([choice]).config.model_dump()).items()
        }
        self._keys = sorted(key for key in self._values if not any(part.isdigit() for part in key.split(".")))
        at_times = ("cluster.slurm.", "checkpoint.remote.", "track.")
        self._always = [key for key in self._keys if not key.startswith(at_times)]

    def __call__(self) -> list[str]:
        """One list. About half of them compose to a config."""
        pick, number = self._random, self._random.choice([1, 2, 2, 3, 3, 4, 5])
        good: list[Callable[[], str]] = [self._choice, self._fitting, self._fitting, self._fitting]
        any_kind = [*good, self._any_value, self._any_value, self._odd, self._odd, self._slip]
        if pick.random() < 0.35:
            return list(dict.fromkeys(pick.choice(any_kind)() for _ in range(number)))
        texts = (pick.choice(good)() for _ in range(number))
        return list({text.partition("=")[0]: text for text in texts}.values())  # each key once

    def take(self, number: int) -> Iterator[list[str]]:
        """So many lists."""
        return (self() for _ in range(number))

    def _choice(self) -> str:
        return self._random.choice([*self._choices, *self._lab_choices])

    def _fitting(self) -> str:
        """A value of the type that its key has."""
        key = self._random.choice(self._always if self._random.random() < 0.8 else self._keys)
        value = self._values[key]
        if isinstance(value, bool) or value is None:
            text = self._random.choice(["true", "false"] if value is not None else ["null", "null", "null", "7"])
        elif isinstance(value, int):
            text = str(self._random.choice([value, 2 * value, value + 1, 2, 16]))
        elif isinstance(value, float):
            text = str(self._random.choice([value, value / 2, 0.25, 1.0]))
        elif isinstance(value, str):
            is_free = key in ("name", "tag") or key.endswith(".name")
            text = self._random.choice(["some-words", "${model.name}", "x${seed.model}"]) if is_free else value
        else:
            text = "null"
        return f"{key}={text}"

    def _any_value(self) -> str:
        sign = self._random.choice(["", "", "", "+", "++", "~"])
        return f"{sign}{self._random.choice(self._keys)}={self._random.choice(self._scalars)}"

    def _odd(self) -> str:
        return self._random.choice(self._odds)

    def _slip(self) -> str:
        text = self._random.choice([self._choice, self._fitting])()
        place = self._random.randrange(len(text))
        return text[:place] + self._random.choice(["", "x", text[place] * 2]) + text[place + 1 :]
