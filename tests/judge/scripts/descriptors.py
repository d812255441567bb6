"""Prints the library's proto files as JSON: name -> FileDescriptorProto in base64."""

import base64
import json

from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2

FILES = (metadata_store_pb2.DESCRIPTOR, metadata_store_service_pb2.DESCRIPTOR)
print(json.dumps({file.name: base64.b64encode(file.serialized_pb).decode() for file in FILES}))
