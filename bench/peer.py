"""The peer: a gRPC server around the real ML Metadata library. Runs in the judge's environment, not in ours.

    python bench/peer.py DATABASE_FILE fresh|pooled

`fresh` opens a store for every call, as the original ml_metadata_store_server does; `pooled` keeps one open and takes
turns on it, which is the most that the library allows (a store is not thread-safe). Prints its port.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library
from ml_metadata.proto import metadata_store_pb2

CODES = {code.value[0]: code for code in grpc.StatusCode}


def main() -> None:
    file, mode = sys.argv[1:]
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = file
    settings = config.SerializeToString(), metadata_store_pb2.MigrationOptions().SerializeToString()
    kept = library.CreateMetadataStore(*settings)
    turn = threading.Lock()

    def answer(method, request, context):
        call = getattr(library, method)
        if mode == "pooled":
            with turn:
                response, message, code = call(kept, request)
        else:
            try:
                store = library.CreateMetadataStore(*settings)
            except RuntimeError as error:  # the database is busy
                context.abort(grpc.StatusCode.ABORTED, str(error))
            response, message, code = call(store, request)
        if code:
            context.abort(CODES[code], message.decode(errors="replace") if isinstance(message, bytes) else message)
        return response

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details):
            method = details.method.rpartition("/")[2]
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer(method, request, context))

    server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Handlers(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
