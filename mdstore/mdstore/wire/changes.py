"""The change feed's messages (`mdstore/v1/changes.proto`)."""

from mdstore.wire import contents

globals().update(contents("mdstore/v1/changes.proto"))
