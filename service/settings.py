"""Settings of the service. Every field is an option of the command line."""

import argparse
import math
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from lanistr.command import CommandParser
from lanistr.errors import ConfigError
from lanistr.schema import Schema
from service.engine.backends import BackendName
from service.inputs.limits import Limits

DEMO_BUNDLES = Path(__file__).resolve().parent / "demo"

_ROW_BYTES = len('{"hours":1,"a":1')
"""At the least, of a row of a series with a value in it: no other object is as frequent."""

_AROUND = 1000
"""Lists and objects that a body may have besides: its records, their parts."""

_EXAMPLE = """example:
  python -m service --bundles bundles/ --port 8000
  curl -s http://127.0.0.1:8000/tasks
"""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(Schema):
    """Where to listen, what to serve, and how much of anything is taken at once."""

    bundles: Path = Field(
        default=DEMO_BUNDLES,
        description="a bundle, or a folder of bundles, each in its own folder (the demo bundles)",
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(
        default=8000, ge=0, le=65535, description="port to listen on; 0: any free port"
    )
    device: str = Field(
        default="auto",
        description="where the model runs: cpu, a GPU (cuda, cuda:1), or several of one kind that "
        "share the work (cuda:0,cuda:1; or cpu,cpu, which splits the cores between cases); "
        "auto uses a GPU if the backend finds one",
    )
    backend: BackendName = Field(
        default="onnx",
        description="what runs the model: onnx, or torch (TorchScript, which can run any code: "
        "only for bundles you trust)",
    )
    precision: Literal["auto", "fp32", "int8", "fp16", "bf16"] = Field(
        default="auto",
        description="numeric precision; auto is int8 on a CPU, fp16 on a GPU (torch: bf16), "
        "provided that the task's metric does not suffer; otherwise fp32",
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="processes that read and preprocess requests, besides one per device that runs "
        "the model; 0: a single process does everything",
    )
    threads: int = Field(
        default_factory=_cores,
        ge=1,
        description="threads for preprocessing (at most 4 are used) and, at most, for the model "
        "(default: one per core); fractions, such as 1.5, are rounded up",
    )
    queue: int = Field(
        default=256,
        ge=1,
        description="requests of one task held at once; further ones get 503 with Retry-After",
    )
    queue_seconds: float = Field(
        default=120,
        gt=0,
        description="longest backlog of work ahead of a request; beyond it, further ones get 503 "
        "with Retry-After",
    )
    batch_tokens: int = Field(
        default=8192, ge=1, description="tokens encoded or fused in one batch"
    )
    cache_bytes: int = Field(
        default=268_435_456,
        ge=0,
        description="memory for cached encoder outputs of inputs that repeat; 0: no cache",
    )
    watch_seconds: float = Field(
        default=5,
        ge=0,
        description="how often to check for changed bundles; 0: only on SIGHUP",
    )
    drain_seconds: int = Field(
        default=30,
        ge=1,
        description="how long requests in progress may take to finish after SIGTERM",
    )
    body_seconds: float = Field(
        default=30, gt=0, description="how long a request body may take to arrive; then 408"
    )
    answer_seconds: float = Field(
        default=300,
        gt=0,
        description="how long an answer may take; then 504; a client may ask for less with "
        "X-Request-Timeout-Ms",
    )
    stream_seconds: float = Field(
        default=600,
        gt=0,
        description="how long a stream may send only blank lines before it is ended",
    )
    header_seconds: float = Field(
        default=10, gt=0, description="how long request headers may take to arrive; then 408"
    )
    header_bytes: int = Field(
        default=65_536, ge=1024, description="maximum size of the request headers"
    )
    idle_seconds: int = Field(
        default=75,
        ge=1,
        description="how long an idle connection is kept open; set it longer than proxies and "
        "clients keep theirs, or they may send on one that is being closed",
    )
    body_bytes: int = Field(default=20_000_000, ge=1, description="maximum size of a request body")
    large_bytes: int = Field(
        default=250_000,
        ge=1,
        description="size from which bodies are kept from delaying smaller ones",
    )
    json_depth: int = Field(
        default=16, ge=4, le=1000, description="maximum nesting depth of a JSON body"
    )
    form_parts: int = Field(default=256, ge=1, description="maximum parts in a form")
    batch: int = Field(default=256, ge=1, description="maximum records in a batch")
    notes: int = Field(default=64, ge=1, description="maximum notes per case")
    note_characters: int = Field(default=200_000, ge=1, description="maximum length of a note")
    pictures: int = Field(default=16, ge=1, description="maximum images per case")
    pixels: int = Field(
        default=40_000_000,
        ge=1,
        description="maximum pixels over all images of a case, checked before decoding; a bundle "
        "may set a lower limit",
    )
    series_rows: int = Field(default=20_000, ge=1, description="maximum rows in a time series")
    series_hours: float = Field(
        default=87_600,
        gt=0,
        description="maximum distance of a time in a series from its start, before or after",
    )
    case_tokens: int = Field(
        default=200_000, ge=1, description="maximum tokens per case, encoded and fused combined"
    )
    keys: Path | None = Field(
        default=None,
        description="file of API keys, see `python -m service keys new --help`; without it, no key "
        "is needed",
    )
    open_metrics: bool = Field(
        default=False,
        description="with --keys, true lets /metrics be read without a key; true or false",
    )
    audit: Path | None = Field(
        default=None, description="audit log: a file that gets one line per prediction"
    )
    audit_failure: Literal["refuse", "count"] = Field(
        default="refuse",
        description="while the audit log cannot be written: refuse (requests get 503) or count "
        "(requests are answered, and the missing lines counted)",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="format of the log: text, or json (one object per line)"
    )

    @field_validator("device")
    @classmethod
    def _devices_of_a_kind(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu(,cpu)*|cuda(:\d{1,3})?(,cuda(:\d{1,3})?)*", device):
            raise ValueError(
                "accepted: auto; cpu; cuda or cuda:N; or several of one kind, such as cuda:0,cuda:1"
            )
        return device

    @field_validator("threads", mode="before")
    @classmethod
    def _whole(cls, threads: Any) -> Any:
        """Let the limit of a container, such as 1.5 cores, be the number of its threads."""
        with suppress(ValueError, TypeError, OverflowError):  # pydantic reports it
            if (number := float(threads)) > 0:
                return math.ceil(number)
        return threads

    def shares(self) -> "list[Settings]":
        """Return the settings of each of the devices that share the work."""
        devices = self.device.split(",")
        share = {
            "threads": max(1, self.threads // len(devices)),
            "cache_bytes": self.cache_bytes // len(devices),
        }
        return [self.model_copy(update={"device": each} | share) for each in devices]

    def limits(self) -> Limits:
        """Return how much one request may bring."""
        return Limits(
            json_depth=self.json_depth,
            json_containers=_AROUND + self.body_bytes // _ROW_BYTES,
            form_parts=self.form_parts,
            text_items=self.notes,
            text_characters=self.note_characters,
            image_items=self.pictures,
            timeseries_items=self.series_rows,
            timeseries_hours=self.series_hours,
        )


def read_settings(arguments: list[str] | None = None) -> Settings:
    """Read the command line; every field of `Settings` is an option.

    Raises:
        ConfigError: a value is not what its option takes.
    """
    parser = CommandParser(
        prog="python -m service",
        description="Serve exported bundles over HTTP.",
        epilog=_EXAMPLE,
    )
    add_options(parser, Settings.model_fields)
    return Settings.parse(vars(parser.parse_args(arguments)), ConfigError, "settings")


def add_options(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Make fields of `Settings` options of a command; what is left out is not in what it parses."""
    for name in names:
        field = Settings.model_fields[name]
        usual = field.default
        hidden = field.default_factory or not usual or usual == DEMO_BUNDLES  # a path of ours
        default = "" if hidden else f" ({usual})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.split("_")[-1].upper(),
            default=argparse.SUPPRESS,
            help=f"{field.description}{default}",
        )
