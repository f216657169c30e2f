"""optuna-dashboard over a study's store, on this machine only: it has no passwords and checks no host."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore

from sweeps.errors import StoreError
from sweeps.sqlite import path_of
from sweeps.store import Reader
from trainer.errors import UserError

HOST = "127.0.0.1"


def serve(url: str, *, port: int = 0, artifacts: Path | None = None, announce: Callable[[str], None] = print) -> None:
    """Show the store `url` until Ctrl-C; `announce` is told the address. Port 0 is any free one.

    `artifacts`: the folder of the files that trials have. A sweep may run meanwhile. Raises StoreError for a URL that
    is no store, UserError for a port that is taken.
    """
    with server(url, port=port, artifacts=artifacts) as running:
        # requests are answered in a thread of their own: wsgiref swallows a Ctrl-C that comes in the middle of one
        answering = threading.Thread(target=running.serve_forever, daemon=True)
        answering.start()
        with contextlib.suppress(KeyboardInterrupt):
            announce(address_of(running))
            answering.join()
        running.shutdown()
        answering.join()


@contextlib.contextmanager
def server(url: str, *, port: int = 0, artifacts: Path | None = None) -> Iterator[WSGIServer]:
    """The dashboard's server, bound to 127.0.0.1 and not serving yet."""
    with Reader(url):  # a clear word where there is no store, instead of an empty one
        pass
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path_of(url)}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
    except RuntimeError as error:
        raise StoreError(f"{path_of(url)}: its Optuna tables are not those of Optuna {optuna.__version__}") from error
    try:
        there = artifacts is not None and artifacts.is_dir()
        files = FileSystemArtifactStore(str(artifacts)) if there else None
        app = optuna_dashboard.wsgi(storage, artifact_store=files)
        try:
            running = make_server(HOST, port, app, handler_class=_Quiet)
        except OSError as error:
            raise UserError(f"port {port} can't be had: {error.strerror}; --port 0 takes a free one") from error
        with running:
            yield running
    finally:
        storage.remove_session()
        storage.engine.dispose()


def address_of(running: WSGIServer) -> str:
    """What to open in a browser."""
    return f"http://{HOST}:{running.server_port}"


class _Quiet(WSGIRequestHandler):
    """Without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None: ...
