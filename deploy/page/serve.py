#!/usr/bin/env python3
"""Serves the chat page, and does for it what Django does in production: says who and what there is, mints tokens.

    serve.py --binary PATH --config FILE [--port N]

    GET  /         the page's files
    GET  /config   {"gateways": […], "users": […], "rooms": […]}
    POST /token    {"user": ID} → {"token": …}, minted by `community-gateway token` with our environment

FILE is JSON, read at every request: {"gateways": [{"name", "url"}], "database_url"}. Listens on 127.0.0.1 and prints
its address as the first line. For trying things out only: whoever reaches it may be anybody.
"""

import argparse
import functools
import http.server
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
FILES = {"index.html", "chat.css", "chat.js"}
QUERY = """
SELECT json_build_object(
  'users', (SELECT json_agg(json_build_object('id', id, 'username', username) ORDER BY id) FROM users_user WHERE is_active),
  'rooms', (SELECT json_agg(json_build_object('id', id, 'name', name, 'visibility', visibility) ORDER BY position, name)
            FROM community_room WHERE is_active))
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr, end="", flush=True)
        raise RuntimeError(f"{pathlib.Path(command[0]).name} failed ({done.returncode})")
    return done.stdout


class Page(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args, settings: argparse.Namespace, **kwargs):
        self.settings = settings
        super().__init__(*args, directory=str(HERE), **kwargs)

    def do_GET(self):
        path = self.path.split("?")[0].lstrip("/")
        if path == "config":
            self.answer(self.config)
        elif not path or path in FILES:
            super().do_GET()
        else:
            self.send_error(404)

    def do_HEAD(self):
        self.send_error(405)

    def do_POST(self):
        if self.path == "/token":
            self.answer(self.token)
        else:
            self.send_error(404)

    def config(self) -> dict:
        stack = json.loads(self.settings.config.read_text())
        rows = run("psql", "-X", "-A", "-t", "-d", stack["database_url"], "-c", QUERY)
        return {"gateways": stack["gateways"], **json.loads(rows)}

    def token(self) -> dict:
        # Only a page of ours can send this type without being asked first by the browser.
        if self.headers.get_content_type() != "application/json":
            raise ValueError("the body must be application/json")
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 1000))
        user = int(json.loads(body)["user"])
        minted = run(self.settings.binary, "token", "--user", str(user), "--count", "1", "--format", "django")
        return {"token": minted.split()[0]}

    def answer(self, make):
        try:
            status, value = 200, make()
        except (KeyError, TypeError, ValueError) as error:
            status, value = 400, {"error": f"bad request: {error}"}
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            status, value = 503, {"error": str(error)}
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self):
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_request(self, code="-", size="-"):
        pass  # what goes wrong is logged, what goes right is not


class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True


def listen(port: int, handler) -> Server:
    try:
        return Server(("127.0.0.1", port), handler)
    except OSError:
        return Server(("127.0.0.1", 0), handler)  # taken: any other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--config", required=True, type=pathlib.Path)
    parser.add_argument("--port", type=int, default=8000)
    settings = parser.parse_args()
    server = listen(settings.port, functools.partial(Page, settings=settings))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
