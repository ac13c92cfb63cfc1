# SPDX-License-Identifier: Apache-2.0
"""Making the HTTP application.

Owns the order of things: features' routers under ``/api/v1``, errors as JSON, the
token gate around everything, mounts last. Routes live in the features' packages.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from edge_contract.errors import EdgeError
from fleet.api.supervisor import TaskSupervisor
from fleet.auth.answers import error_response
from fleet.auth.gate import TokenGate
from fleet.auth.tokens import TokenBook
from fleet.errors import RequestError
from fleet.services import Feature

API_PREFIX = "/api/v1"


def make_application(
    features: Sequence[Feature],
    book: TokenBook,
    on_failure: Callable[[EdgeError], None] = lambda _error: None,
) -> FastAPI:
    """Make the application of ``features``, closed to all but ``book``'s tokens.

    Args:
        features: In the order of their start.
        book: The tokens.
        on_failure: Gets the error of a feature that does not start; the web server
            itself only tells that there was one.
    """
    app = FastAPI(
        title="Edgeloop fleet",
        lifespan=lambda _app: run_features(features, on_failure),
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API_PREFIX}/openapi.json",
    )
    for feature in features:
        for router in feature.routers:
            app.include_router(router, prefix=API_PREFIX)
    app.add_exception_handler(EdgeError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    for feature in features:
        if feature.mount is not None:
            feature.mount(app)
    open_paths = [(p.method, p.pattern) for f in features for p in f.open_paths]
    app.add_middleware(TokenGate, book=book, open_paths=open_paths)
    return app


@asynccontextmanager
async def run_features(
    features: Sequence[Feature], on_failure: Callable[[EdgeError], None]
) -> AsyncIterator[None]:
    """Start the features and their periodic work; stop both in reverse order."""
    started: list[Feature] = []
    supervisor = TaskSupervisor([task for f in features for task in f.tasks])
    try:
        try:
            for feature in features:
                await run_in_threadpool(feature.start)
                started.append(feature)
        except EdgeError as error:
            on_failure(error)
            raise
        supervisor.start()
        yield
    finally:
        await run_in_threadpool(supervisor.stop)
        for feature in reversed(started):
            await run_in_threadpool(feature.stop)


def _answer_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, EdgeError):
        raise error
    return error_response(error)


def _answer_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    parts = [
        f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()
    ]
    message = f"{request.url.path}: {'; '.join(parts)}"
    step = f"see {API_PREFIX}/openapi.json for what the request takes"
    return error_response(RequestError(message, next_step=step))
