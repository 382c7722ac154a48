"""POST /predict/{task}/stream: any number of cases, a line each; an answer a line, as it is done.

Lines are read as they come and answered as they are done, so in any order: each answer has the
number of its line. No more than a few cases are inside at a time. Of a client that does not read
the answers nothing more is read: nothing piles up, however long the list.

Each case takes a place of its own and waits for one, so that a stream that brings nothing keeps
nobody out; and each is answered by the model that is served when its turn comes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lanistr.errors import InputError
from service.api import schemas
from service.api.batch import IN_FLIGHT, answer_one
from service.api.connection import leaving_of, while_connected
from service.api.exchange import Exchange, exchange_of
from service.api.keys import NoKeyError, OutOfScopeError
from service.api.options import Options, query_of, read_options
from service.api.problems import ClientLeftError, of_error
from service.api.route import case_route
from service.audit import AuditUnavailableError
from service.engine.admission import TooBusyError
from service.engine.predictor import Predictor
from service.inputs import check_type, json
from service.inputs.body import lines
from service.models import Models
from service.settings import Settings

MEDIA_TYPE = "application/x-ndjson"

_AGAIN_SECONDS = 1.0
"""How often a case that waits looks whether another model is served, which may have a place."""


async def predict_stream(request: Request, predictor: Predictor) -> Response:
    """Predict a case a line; one that cannot be used fails for itself alone."""
    options = read_options(query_of(request))
    check_type(request.headers, [MEDIA_TYPE])
    models: Models = request.app.state.models
    find = partial(models.find, predictor.bundle.task.name, options.version)
    return Stream(find, options, request.app.state.settings, exchange_of(request))


route = case_route("/predict/{task}/stream", predict_stream, Options.model_fields)


class Stream(Response):
    """Answers while it reads; starlette's own streams would take the body for a sign of leaving."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        find: Callable[[], Predictor],
        options: Options,
        settings: Settings,
        exchange: Exchange,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._find = find
        self._options = options
        self._limits = settings.limits()
        self._most, self._seconds = settings.body_bytes, settings.body_seconds
        self._idle_seconds = settings.stream_seconds
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one exchange to its end.

        Raises:
            TooBusyError: no place is free.
            InputError: not even a first line arrived in time.
        """
        coming = lines(receive, self._most, self._seconds)
        try:
            # Not before: a client that waits for "100 Continue" would take this for the answer.
            first = await self._next(coming)
        except ClientDisconnect:
            raise ClientLeftError from None
        with self._find().admission.place():
            pass  # there is one
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        if self._exchange.code != "ok":  # it was not put on record, and this was said instead
            return
        left = False
        try:
            answering = self._answer_all(first, coming, receive, send)
            await while_connected(leaving_of(scope), answering)
        except* (ClientLeftError, ClientDisconnect):
            left = True  # the tasks of the cases are cancelled by now
            self._exchange.code = "client_left"
        if not left:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer_all(
        self,
        first: bytes | InputError | None,
        coming: AsyncIterator[bytes | InputError],
        receive: Receive,
        send: Send,
    ) -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)
        sending = asyncio.Lock()

        async def say(item: schemas.Item, version: str | None) -> None:
            try:
                async with sending, asyncio.timeout(self._seconds):
                    recorded = await self._recorded(item, version)
                    line = {"type": "http.response.body", "body": schemas.encode(recorded) + b"\n"}
                    await send({**line, "more_body": True})
            except TimeoutError:  # it reads no more
                raise ClientLeftError from None

        async def answer(index: int, line: bytes | InputError) -> None:
            await say(*await self._answer(index, line))
            slots.release()

        async def all_said() -> None:
            for _ in range(IN_FLIGHT):
                await slots.acquire()

        index, exchange = 0, self._exchange
        exchange.several = True
        async with asyncio.TaskGroup() as group:
            try:
                line = first
                while line is not None:
                    if index:
                        if exchange.look is not None:
                            exchange.look()
                        exchange.charge(1)
                    await slots.acquire()
                    group.create_task(answer(index, line))
                    index += 1
                    line = await self._next(coming)
            except (InputError, NoKeyError, OutOfScopeError) as exc:
                # The list breaks off, as where the key was taken back; the answers do not.
                problem = of_error(exchange.id, exc)
                await say({"index": index, "problem": problem}, exchange.version)
                await all_said()
            else:
                await while_connected(receive, all_said())

    async def _next(self, coming: AsyncIterator[bytes | InputError]) -> bytes | InputError | None:
        """Return the next line that is not blank; None at the end.

        Raises:
            InputError: none comes.
        """
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await anext(coming, None)
        except TimeoutError:
            raise InputError(
                "no more cases arrived",
                code="body_too_slow",
                field="body",
                seen=f"only blank lines for {self._idle_seconds:g} s",
                accepted="more cases, or the end of the body",
            ) from None

    async def _answer(
        self, index: int, line: bytes | InputError
    ) -> tuple[schemas.Item, str | None]:
        """Return the answer to a case, and the version of the model that gave it, if one did."""
        size, name = len(line) if isinstance(line, bytes) else 0, self._exchange.id
        try:
            async with self._place() as predictor:
                said = await answer_one(
                    predictor, index, self._reader(line), size, self._options, name
                )
                return said, predictor.bundle.manifest.version
        except InputError as exc:  # the model that was asked for is served no more
            return {"index": index, "problem": of_error(name, exc)}, None

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[Predictor]:
        """Hold a place with the model, as soon as there is one.

        Raises:
            InputError: no such model is served by now.
        """
        with ExitStack() as stack:
            while True:
                predictor = self._find()
                try:
                    stack.enter_context(predictor.admission.place())
                    break
                except TooBusyError:
                    await predictor.admission.next_left(_AGAIN_SECONDS)
            yield predictor

    async def _recorded(self, item: schemas.Item, version: str | None) -> schemas.Item:
        """Put an answer on record before it leaves; what cannot be put there does not leave."""
        self._exchange.version = version
        self._exchange.add_all([item])
        try:
            await self._exchange.put_on_record()
        except AuditUnavailableError as exc:
            self._exchange.metrics.failed(self._exchange.task or "", exc.code)
            return {"index": item["index"], "problem": of_error(self._exchange.id, exc)}
        return item

    def _reader(self, line: bytes | InputError) -> Callable[[], Any]:
        def read() -> Any:
            if isinstance(line, InputError):
                raise line
            return self._limits.check(json.decode(line, self._limits))

        return read
