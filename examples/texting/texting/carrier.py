"""A fake carrier: it accepts messages over HTTP, one for each key, and counts them.

``python -m texting.carrier [--port 8090]``

It keeps messages in memory only.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Delivery(BaseModel):
    """A message as the carrier accepts it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str = Field(pattern=r"^\+[1-9][0-9]{6,14}$")
    text: str = Field(min_length=1, max_length=1600)


@dataclass(slots=True)
class Switchboard:
    """The accepted messages, and the number of repeats."""

    delivered: dict[str, Delivery] = field(default_factory=dict)
    repeated: int = 0

    def take(self, key: str, delivery: Delivery) -> bool:
        """Accept a message. Return False if a message with this key was accepted before.

        :raises ValueError: if the key belongs to another message.
        """
        earlier = self.delivered.setdefault(key, delivery)
        if earlier is delivery:
            return True
        if earlier != delivery:
            raise ValueError(f"the key {key!r} was used for another message")
        self.repeated += 1
        return False


def create_app() -> Starlette:
    """Create a carrier without messages."""
    board = Switchboard()

    async def messages(request: Request) -> JSONResponse:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return _refusal(400, "the header Idempotency-Key is missing")
        try:
            delivery = Delivery.model_validate_json(await request.body())
        except ValidationError as error:
            fields = "; ".join(f"{item['loc']}: {item['msg']}" for item in error.errors(include_input=False))
            return _refusal(422, fields)
        try:
            taken = board.take(key, delivery)
        except ValueError as error:
            return _refusal(409, str(error))
        return JSONResponse({"repeated": not taken}, status_code=202 if taken else 200)

    async def stats(_: Request) -> JSONResponse:
        return JSONResponse(
            {
                "delivered": len(board.delivered),
                "numbers": len({delivery.to for delivery in board.delivered.values()}),
                "repeated": board.repeated,
            }
        )

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/messages", messages, methods=["POST"]),
            Route("/stats", stats),
            Route("/healthz", healthz),
        ]
    )


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m texting.carrier", description="A carrier that sends nothing.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a container")
    parser.add_argument("--port", type=int, default=8090)
    options = parser.parse_args()
    uvicorn.run(create_app(), host=options.host, port=options.port, access_log=False, log_level="warning")


def _refusal(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)


if __name__ == "__main__":
    main()
