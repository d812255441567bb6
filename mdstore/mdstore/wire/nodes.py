"""Messages of conditional writes, deletion, lists and history (`mdstore/v1/nodes.proto`)."""

from mdstore.wire import contents

globals().update(contents("mdstore/v1/nodes.proto"))
