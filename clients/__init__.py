"""Ask a LANISTR service for predictions, from Python or from the command line.

    from clients import Client

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict("mortality", text="pt intubated overnight", image="cxr.jpg")
        print(answer.label, answer.probability, answer.modalities.missing)

`AsyncClient` has the same methods, awaited, but for `Client.score`, which scores a table of any
length. Everything that can go wrong is a `ClientError`; the tree stands at the top of
`clients/errors.py`. Needs
httpx and nothing else of this repository; pyarrow for Parquet, tqdm for a progress bar (the extra
`score`). All of it: docs/clients.md.
"""

import sys
from importlib.util import find_spec

if sys.argv[:1] == ["-m"] and find_spec("httpx") is None:  # a command; others get a traceback
    print("error: httpx is not installed; accepted: lanistr[client]", file=sys.stderr)
    sys.exit(2)

from clients.answers import Embedding, Issue, Modalities, Model, Prediction, Readiness, TaskSummary
from clients.client import AsyncClient, Client
from clients.errors import (
    ClientError,
    ConnectionFailed,
    InvalidInput,
    InvalidRequest,
    ProblemError,
    ServerError,
    TimedOut,
    TooBusy,
    UnreadableAnswer,
)
from clients.reading import Reading
from clients.scoring import Scored

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "Embedding",
    "InvalidInput",
    "InvalidRequest",
    "Issue",
    "Modalities",
    "Model",
    "Prediction",
    "ProblemError",
    "Readiness",
    "Reading",
    "Scored",
    "ServerError",
    "TaskSummary",
    "TimedOut",
    "TooBusy",
    "UnreadableAnswer",
]
