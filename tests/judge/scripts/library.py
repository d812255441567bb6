"""Answers calls with the real library, in this process: one JSON object a line in, one out, until the input ends.

`{"open": PATH}` opens a SQLite file ("" is one in memory) in place of the one before; in place of a path, a
`ConnectionConfig` as JSON names any database. `{"method": NAME, "request":
BASE64}` calls; the answer has `code` (gRPC's number), `message` and `response` (base64).
"""

import base64
import json
import sys

from google.protobuf import json_format
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library
from ml_metadata.proto import metadata_store_pb2 as mlmd


def opened(where):
    config = mlmd.ConnectionConfig()
    if isinstance(where, dict):
        json_format.ParseDict(where, config)
    else:
        config.sqlite.SetInParent()
        if where:
            config.sqlite.filename_uri = where
    return library.CreateMetadataStore(config.SerializeToString(), mlmd.MigrationOptions().SerializeToString())


def main():
    store = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "open" in asked:
            store = None
            store = opened(asked["open"])
            answer = {}
        elif not hasattr(library, asked["method"]):
            answer = {"absent": True}
        else:
            response, message, code = getattr(library, asked["method"])(store, base64.b64decode(asked["request"]))
            answer = {
                "code": code,
                "message": message.decode(errors="replace"),
                "response": base64.b64encode(response).decode(),
            }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
