"""The server: the store's RPCs over gRPC, on one asyncio loop."""
