"""The service: exported bundles behind HTTP, each answering `POST /predict/{task}`.

    python -m service --bundles bundles/

The way of a request: `api.predict` reads the body; `inputs` turns it into a record; the shared core
checks and preprocesses it in a pool of threads; `engine.scheduler` queues it; `engine.runner` runs
whatever waits together; the answer says what was used, what was missing, and what was mended. With
`--workers`, `supervisor` starts front ends for all up to the queue, and `engine.process` from there.

Imports no torch: graphs run on onnxruntime.
"""
