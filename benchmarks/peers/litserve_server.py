"""LitServe: a POST of JPEGs, each behind its length -> their embeddings as bytes.

Tuned: a worker process a core, each with a session of one thread; the body arrives as bytes, not as JSON or a form,
and leaves as bytes; no batching, which on a CPU makes an image slower.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from arguments import arguments
from embed import Embedder
from fastapi import Body
from fastapi.responses import Response
from litserve import LitAPI, LitServer


class Embeddings(LitAPI):
    """One worker."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def setup(self, device: str) -> None:
        """Open the session, in the worker's process."""
        self._embedder = Embedder(self._folder)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> list[bytes]:
        """Take the items apart."""
        return list(_items(request))

    def predict(self, items: list[bytes]) -> bytes:
        """Embed them."""
        return self._embedder.rows(items).tobytes()

    def encode_response(self, output: bytes) -> Response:
        """Answer with the bytes as they are."""
        return Response(output, media_type="application/octet-stream")


def _items(body: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(body):
        (length,) = struct.unpack_from("<I", body, position)
        yield body[position + 4 : position + 4 + length]
        position += 4 + length


def main() -> None:
    """Serve until killed."""
    given = arguments()
    server = LitServer(Embeddings(given.folder), accelerator="cpu", workers_per_device=given.workers, timeout=120)
    server.run(host="127.0.0.1", port=given.port, num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
