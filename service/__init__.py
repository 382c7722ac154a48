"""The service: exported bundles behind HTTP, each answering `POST /predict/{task}`.

    python -m service --bundles bundles/

The way of a request: `api.predict` reads the body; `inputs` turns it into a record; the shared core
checks and preprocesses it in a pool of threads; `engine.scheduler` queues it; `engine.runner` runs
whatever waits together; the answer says what was used, what was missing, and what was mended. With
`--workers`, front ends do all before the queue, and `engine.process` the rest for all of them.

Imports no torch but where `--backend torch` asks for it: graphs run on onnxruntime.
"""

import signal

from lanistr.command import command_begins, leave_at_once, name_missing_packages

if command_begins():  # see `service.hangup`
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
leave_at_once()
name_missing_packages("lanistr[service,cpu], or with gpu or torch instead of cpu")
