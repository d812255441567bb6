"""Batch ingestion's messages (`mdstore/v1/ingestion.proto`)."""

from mdstore.wire import contents

globals().update(contents("mdstore/v1/ingestion.proto"))
