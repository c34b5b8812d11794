"""A gRPC server that reads each request and sends the same bytes back: the least that Python's gRPC costs.

Run: python benchmarks/canned_server.py PATH REPLY_BYTES; it prints its `host:port`.
"""

import asyncio
import sys

import grpc.aio


async def main(path: str, n_bytes: int) -> None:
    """Serve until the process ends."""
    reply = bytes(n_bytes)

    async def answer(request: bytes, context: object) -> bytes:
        return reply

    _, service, method = path.split("/")
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=unlimited)
    handler = grpc.unary_unary_rpc_method_handler(answer)  # neither serializer nor deserializer: bytes in, bytes out
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
