"""Structured logs, and the operations port of a process: /metrics, /healthz and /readyz."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Check = Callable[[], str | None]
"""Says what is wrong, or None."""


def configure_logging(log_format: str, service: str) -> None:
    """One line an event on standard error: JSON, or text for people."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )

    def name_service(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*processors, renderer, _on_its_own_lines],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, _on_its_own_lines],
            foreign_pre_chain=processors,
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def _on_its_own_lines(_: object, __: str, rendered: object) -> str:
    """What is logged cannot end a line and begin one that looks like ours, nor steer a terminal.

    JSON has one line anyway. The further lines of a text, such as a stack trace's, are set off.
    """
    shown = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(rendered))
    return shown.replace("\n", "\n    | ")


class OperationsServer:
    """Serves what operators and supervisors ask of a process, in a thread, on loopback unless told otherwise."""

    def __init__(self, bind: str, port: int, registry: CollectorRegistry, ready: Check) -> None:
        self._server = ThreadingHTTPServer((bind, port), _handler(registry, ready))
        self._server.daemon_threads = True
        thread = threading.Thread(target=self._server.serve_forever, args=(2.0,), name="operations", daemon=True)
        thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def serve_operations(bind: str, port: int, registry: CollectorRegistry, ready: Check) -> OperationsServer | None:
    """The operations server, or None where `port` is 0."""
    return OperationsServer(bind, port, registry, ready) if port else None


def _handler(registry: CollectorRegistry, ready: Check) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/healthz":
                self._answer(200, "text/plain", b"ok\n")
            elif self.path == "/readyz":
                wrong = ready()
                self._answer(503 if wrong else 200, "text/plain", f"{wrong or 'ready'}\n".encode())
            else:
                self._answer(404, "text/plain", b"try /metrics, /healthz or /readyz\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
            """Probes are not news."""

    return Handler
