"""The peer: a gRPC server around the real ML Metadata library. Runs in the judge's environment, not in ours.

    python bench/peer.py CONNECTION_CONFIG_AS_JSON fresh|kept PROCESSES [ADDRESS:PORT]

`fresh` opens a store for every call, as the original ml_metadata_store_server does; `kept` has stores that stay open:
one in each thread, or on SQLite one in each process, which threads take turns on (a store is not thread-safe). The
library's binding holds the interpreter's lock during a call, so that only processes work at the same time; they share
the port, a free one of loopback unless one is given. Prints it.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

THREADS = 64


def serve(address, settings, mode, one_store):
    import grpc  # noqa: PLC0415 (after the fork)
    from google.protobuf import json_format  # noqa: PLC0415
    from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library  # noqa: PLC0415
    from ml_metadata.proto import metadata_store_pb2  # noqa: PLC0415

    codes = {code.value[0]: code for code in grpc.StatusCode}
    config = json_format.Parse(settings, metadata_store_pb2.ConnectionConfig()).SerializeToString()
    options = metadata_store_pb2.MigrationOptions().SerializeToString()
    kept = threading.local()
    # Whatever the mode: this makes the tables where there are none.
    first = library.CreateMetadataStore(config, options)
    only = first if mode == "kept" and one_store else None
    turn = threading.Lock()

    def perform(call, request, context):
        if only is not None:
            with turn:
                return call(only, request)
        if mode == "kept" and hasattr(kept, "store"):
            return call(kept.store, request)
        try:
            store = library.CreateMetadataStore(config, options)
        except RuntimeError as error:  # the database is busy
            context.abort(grpc.StatusCode.ABORTED, str(error))
        if mode == "kept":
            kept.store = store
        return call(store, request)

    def answer(method, request, context):
        response, message, code = perform(getattr(library, method), request, context)
        if code:
            context.abort(codes[code], message.decode(errors="replace") if isinstance(message, bytes) else message)
        return response

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details):
            method = details.method.rpartition("/")[2]
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer(method, request, context))

    sizes = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 1), *sizes])
    server.add_generic_rpc_handlers((Handlers(),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def main():
    settings, mode, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    host, port = sys.argv[4].split(":") if len(sys.argv) > 4 else ("127.0.0.1", "0")
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    taken.bind((host, int(port)))
    port = taken.getsockname()[1]
    children = []
    # Before gRPC is imported: its threads do not live through a fork.
    for _ in range(processes - 1):
        child = os.fork()
        if not child:
            # It ends when the first one is killed.
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            break
        children.append(child)
    else:

        def stop(*_):
            for child in children:
                os.kill(child, signal.SIGKILL)
            os._exit(0)

        signal.signal(signal.SIGTERM, stop)
        print(port, *children, flush=True)
    serve(f"{host}:{port}", settings, mode, '"sqlite"' in settings)


if __name__ == "__main__":
    main()
