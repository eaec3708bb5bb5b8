"""Settings of cropline's own events: which receivers get committed batches and erasures."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from cropline.config.group import Group


class EventSettings(Group):
    """Receivers of cropline's own events: a webhook, Kafka, Prefect. Without one, none are made."""

    url: SecretStr = Field(SecretStr(""), description="webhook: http(s) address; a query is kept; secret")
    secret: SecretStr = Field(
        SecretStr(""), description="webhook: key of the HMAC-SHA256 signature; at least 16 characters"
    )
    kafka: dict[str, SecretStr] = Field(
        {}, description="Kafka: settings of librdkafka, at least bootstrap.servers, as a JSON object"
    )
    topic: str = Field("cropline", min_length=1, description="Kafka: the topic of the events")
    prefect: bool = Field(False, description="also as events of Prefect, for its event feed and automations")
    timeout_s: float = Field(2, gt=0, le=60, description="the most time that the receivers may cost a run")

    @property
    def receivers(self) -> tuple[Literal["webhook", "kafka", "prefect"], ...]:
        """Who gets the events. Prefect comes first, since it is fast."""
        wanted: dict[Literal["webhook", "kafka", "prefect"], bool] = {
            "prefect": self.prefect,
            "webhook": bool(self.url.get_secret_value()),
            "kafka": bool(self.kafka),
        }
        return tuple(name for name, yes in wanted.items() if yes)

    @property
    def wanted(self) -> bool:
        """Whether events are made."""
        return bool(self.receivers)

    @model_validator(mode="after")
    def _kafka_can_be_reached(self) -> Self:
        if self.kafka and "bootstrap.servers" not in self.kafka:
            raise ValueError('kafka needs {"bootstrap.servers": "host:9092"}')
        if self.kafka and find_spec("confluent_kafka") is None:
            raise ValueError("kafka needs confluent-kafka: install cropline[kafka]")
        return self

    @model_validator(mode="after")
    def _webhook_can_be_reached(self) -> Self:
        if not self.url.get_secret_value():
            return self
        try:
            parts = urlsplit(self.url.get_secret_value())
            _ = parts.port  # raises on a port that is not a number
        except ValueError:
            raise ValueError("url is not http(s)://host[:port]/path") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
            raise ValueError("url is not http(s)://host[:port]/path")
        if len(self.secret.get_secret_value()) < 16:
            raise ValueError("url needs secret, of at least 16 characters: receivers check the signature by it")
        return self
