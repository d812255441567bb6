"""MLMD's nodes, types, links and configuration (`ml_metadata/proto/metadata_store.proto`)."""

from mdstore.wire import contents

globals().update(contents("ml_metadata/proto/metadata_store.proto"))
