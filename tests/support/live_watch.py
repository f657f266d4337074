"""Runs `live.run` over sources and returns its lines; serves a file over HTTP."""

import contextlib
import http.server
import io
import json
import threading

from wsvad_jax.detection import live


def watch(detector, source, **kwargs):
    """The lines about a source or several, as objects."""
    out = io.StringIO()
    several = isinstance(source, list)
    live.run(detector, source if several else str(source), out=out, **kwargs)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def of(lines, kind):
    return [line for line in lines if line["type"] == kind]


@contextlib.contextmanager
def served(content, lost=()):
    """An HTTP server of a file; the connections in `lost` break off half-way."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            broken = len(requests) - 1 in lost
            with contextlib.suppress(OSError):
                self.wfile.write(content[: len(content) // 2] if broken else content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video.ts", requests
    finally:
        server.shutdown()
        server.server_close()
