"""Settings of lineage: where its events go."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from cropline.config.api import ApiSettings as ApiSettings
from cropline.config.api import FieldMap as FieldMap
from cropline.config.api import is_plain_http
from cropline.config.engine import EngineSettings as EngineSettings
from cropline.config.fetch import FetchSettings as FetchSettings
from cropline.config.group import Group as Group
from cropline.config.pictures import PictureLimits as PictureLimits
from cropline.core.store_spec import StoreSpec


class LineageSettings(Group):
    """Where OpenLineage events go."""

    namespace: str = Field("cropline", description="OpenLineage namespace of cropline's jobs")
    transport: Literal["file", "http", "kafka", "composite", "none"] = Field(
        "file", description="where lineage events go; composite sends them to each of transports"
    )
    transports: tuple[Literal["file", "http", "kafka"], ...] = Field(
        (), description='composite: those that each get every event, as ["file", "http"]'
    )
    path: str | None = Field(
        None,
        description="file: local path; empty is lineage/ below the storage: events.ndjson of a file:// one, else one object per delivery",
    )
    url: str | None = Field(None, description="http: base address of the collector")
    token: SecretStr = Field(SecretStr(""), description="http: bearer token")
    topic: str = Field("openlineage", min_length=1, description="kafka: the topic of the events")
    kafka: dict[str, SecretStr] = Field(
        {}, description="kafka: settings of librdkafka, at least bootstrap.servers, as a JSON object"
    )
    timeout_s: float = Field(2, gt=0, le=60, description="the most time that lineage may cost a run")

    @property
    def transport_names(self) -> tuple[str, ...]:
        """The transports of events. The file comes first, since it is fast."""
        named = self.transports if self.transport == "composite" else (self.transport,)
        return tuple(sorted(named, key=("file", "http", "kafka", "none").index))

    def file_path(self, spec: StoreSpec) -> Path | None:
        """Return the local file that the file transport appends to; None when events become objects of the storage."""
        if self.path is not None:
            return Path(self.path)
        return spec.local_path / "lineage" / "events.ndjson" if spec.local_path else None

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        if self.transport == "composite" and (
            len(self.transports) < 2 or len(set(self.transport_names)) < len(self.transport_names)
        ):
            raise ValueError('transport composite needs transports, each once, as ["file", "http"]')
        if self.transports and self.transport != "composite":
            raise ValueError("transports needs transport composite")
        if "http" in self.transport_names and not (self.url and is_plain_http(self.url)):
            raise ValueError("transport http needs url = http(s)://host[:port]")
        if "kafka" in self.transport_names:
            if "bootstrap.servers" not in self.kafka:
                raise ValueError('transport kafka needs kafka = {"bootstrap.servers": "host:9092"}')
            if find_spec("confluent_kafka") is None:
                raise ValueError("transport kafka needs confluent-kafka: install cropline[kafka]")
        return self
