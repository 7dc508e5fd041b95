"""A small API server that speaks TokenReview, as Kubernetes does, over TLS or plainly."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OWN_TOKEN = "the-task-server-s-own-token"


def token_of(
    account: str, audience: str = "spoke-tasks", *, expired: bool = False, forged: bool = False, number: int = 0
) -> str:
    """A token of ``namespace/name``, each number another one. This server believes it, unless it is forged."""
    user = f"system:serviceaccount:{account.replace('/', ':')}"
    claims = {"sub": user, "aud": [audience], "exp": 1 if expired else 4e9 + number}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "Zm9yZ2Vk" if forged else "c2lnbmVk"])


class ApiServer:
    """What was asked of it, and where it is."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.reviews: list[dict[str, Any]] = []
        self.callers: list[str] = []
        self.away = False

    def status_of(self, review: dict[str, Any]) -> dict[str, Any]:
        """As Kubernetes answers."""
        claims = json.loads(base64.urlsafe_b64decode(review["spec"]["token"].split(".")[1] + "==="))
        audiences = [one for one in review["spec"]["audiences"] if one in claims["aud"]]
        if review["spec"]["token"].endswith(".Zm9yZ2Vk"):
            return {"user": {}, "error": "[invalid bearer token, square/go-jose: error in cryptographic primitive]"}
        if claims["exp"] < 1e9:
            return {"user": {}, "error": "[invalid bearer token, service account token has expired]"}
        if not audiences:
            return {"user": {}, "error": f"[invalid bearer token, token audiences {claims['aud']} is invalid]"}
        user = {"username": claims["sub"], "uid": "1", "groups": ["system:authenticated"]}
        return {"authenticated": True, "user": user, "audiences": audiences}


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Runs within the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.callers.append(self.headers["authorization"])
            if served.away:
                self.send_error(503)
                return
            assert self.path == "/apis/authentication.k8s.io/v1/tokenreviews"
            assert (review["apiVersion"], review["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
            served.reviews.append(review)
            body = json.dumps({**review, "status": served.status_of(review)}).encode()
            self.send_response(201)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Not in the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = ApiServer(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
