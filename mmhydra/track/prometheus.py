"""The newest metrics as Prometheus gauges on a small HTTP server."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mmhydra.track.modalities import HELDOUT_LOSS, TRAIN_LOSS, by_modality
from mmhydra.track.sink import RunInfo, numeric_fields, subset

_PREFIX = "llm_pretrain_training_"
# (subset, field of the record): (name after the prefix, help)
_GAUGES = {
    ("train", "grad_norm"): ("grad_norm", "Gradient norm before clipping."),
    ("train", "throughput_tps"): ("throughput_tokens_per_second", "Tokens trained on a second, all ranks."),
    ("train", "lr"): ("learning_rate", "Learning rate."),
    ("train", "mfu"): ("mfu_ratio", "Model FLOP utilisation, 0 to 1."),
    ("train", "data_time_s"): ("data_time_seconds", "Time a step waited for data."),
    ("train", "step_time_s"): ("step_time_seconds", "Time of a step."),
    ("train", "consumed_tokens"): ("consumed_tokens", "Tokens consumed by the run; falls on a resume."),
    ("val", "val_loss"): ("validation_loss", "Validation loss."),
}
_MODALITY_GAUGES = {
    TRAIN_LOSS: ("modality_loss", "Training loss of the labels of a modality."),
    HELDOUT_LOSS: ("validation_modality_loss", "Validation loss of the labels of a modality."),
}
_DATA_PREFIX = "llm_pretrain_data_pipeline_"
# Field of a training record: (name after the prefix, label of its parts or None for one number, help). Those that count
# up are counters, which fall when a run resumes from before its newest record: to rate() that is a reset.
_COUNTERS = {
    "seen_tokens_by_modality": ("processed_tokens", "modality", "Tokens that the run has seen, padding not counted."),
    "seen_tokens_by_source": ("source_tokens", "source", "Tokens of a source that the run has seen."),
    "skipped_samples": ("skipped_samples", None, "Samples that were left out, their chunks being damaged."),
}
_DATA_GAUGES = {"epochs_by_source": ("source_epochs", "source", "How often the run has read a source.")}


class DataSeries(Collector):
    """What the newest record says of the data. A field that no record had yet has no series."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._values: dict[str, dict[str, float]] = {}

    def take(self, record: Mapping[str, Any]) -> None:
        """Keeps the fields that a training record has."""
        for field in _COUNTERS | _DATA_GAUGES:
            if found := numeric_fields({field: record.get(field)}):
                # Parts are named field/part; a number alone has no part.
                self._values[field] = {name.partition("/")[2]: value for name, value in found.items()}

    def collect(self) -> Iterator[Metric]:
        """One family a field."""
        for field, (name, label, text) in (_COUNTERS | _DATA_GAUGES).items():
            if field in self._values:
                kind = CounterMetricFamily if field in _COUNTERS else GaugeMetricFamily
                family = kind(_DATA_PREFIX + name, text, labels=["model", label] if label else ["model"])
                for part, value in self._values[field].items():
                    family.add_metric([self._model, part] if label else [self._model], value)
                yield family


class PrometheusSink:
    """Serves gauges `llm_pretrain_training_*` with the label model at http://host:port/metrics.

    The loss has the label rank too, the losses by modality have modality. What the run has read so far is
    `llm_pretrain_data_pipeline_*`.

    A gauge appears with its first value; null leaves the last value standing, and
    `llm_pretrain_training_last_record_timestamp_seconds` shows how old it is.

    Args:
        run: gives the label model.
        host: address to listen on; 127.0.0.1 keeps the numbers on this machine.
        port: TCP port; 0 picks a free one (see `port`).
        rank: rank of the process that writes the records.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(self, run: RunInfo, host: str, port: int, rank: int = 0) -> None:
        # Gauges have no _created series; a counter added here one day would.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        self._model = run.model
        self._loss = Gauge(_PREFIX + "loss", "Training loss.", ["model", "rank"], registry=registry).labels(
            run.model, str(rank)
        )
        self._step = self._gauge("step", "Optimizer step of the newest record.", registry)
        self._time = self._gauge("last_record_timestamp_seconds", "When the newest record was written.", registry)
        self._gauges = {key: self._gauge(name, text, registry) for key, (name, text) in _GAUGES.items()}
        self._by_modality = {
            field: Gauge(_PREFIX + name, text, ["model", "modality"], registry=registry)
            for field, (name, text) in _MODALITY_GAUGES.items()
        }
        self._data = DataSeries(run.model)
        registry.register(self._data)
        self._server, self._thread = start_http_server(port, addr=host, registry=registry)

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._server.server_port)

    def write(self, record: Mapping[str, Any]) -> None:
        """Set the gauges of the fields that `record` has."""
        kind = subset(record)
        for name, value in numeric_fields(record).items():
            if (kind, name) == ("train", "loss"):
                self._loss.set(value)
            elif (kind, name) in self._gauges:
                self._gauges[kind, name].labels(self._model).set(value)
        self._data.take(record)
        for field, gauge in self._by_modality.items():
            for modality, loss in by_modality(record, field).items():
                gauge.labels(self._model, modality).set(loss)
        if isinstance(record.get("step"), int):
            self._step.labels(self._model).set(record["step"])
        try:
            written = datetime.fromisoformat(str(record.get("timestamp")))
        except ValueError:
            return
        self._time.labels(self._model).set(written.timestamp())

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
        return Gauge(_PREFIX + name, text, ["model"], registry=registry)
