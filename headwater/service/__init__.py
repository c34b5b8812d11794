"""The gRPC services: each method is from message, call, to message."""
