"""Where cases come in: the busiest routes, with little overhead.

FastAPI would look through the parameters of a function anew for each request, which takes longer
than to read a small case. So these are starlette's own routes, and what each of them needs is done
here: the key is asked for, then the model is found. `service.api.openapi` documents them, one
address a task, with that task's own fields.
"""

from collections.abc import Awaitable, Callable, Collection

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.deadline import check_deadline
from service.api.keys import check_key
from service.api.options import refuse_others
from service.api.tasks import find_predictor
from service.engine.predictor import Predictor

Answer = Callable[[Request, Predictor], Awaitable[Response]]
"""Takes a request whose body has not been read, and what answers its task."""


def case_route(path: str, answer: Answer, takes: Collection[str]) -> Route:
    """Return the route of an address with `{task}` in it, and these parameters in its query."""

    async def endpoint(request: Request) -> Response:
        check_key(request)
        await check_deadline(request)
        refuse_others(request, takes)
        return await answer(request, await find_predictor(request, request.path_params["task"]))

    return Route(path, endpoint, methods=["POST"], include_in_schema=False)
