"""MLMD's requests and responses (`ml_metadata/proto/metadata_store_service.proto`)."""

from mdstore.wire import contents

globals().update(contents("ml_metadata/proto/metadata_store_service.proto"))
