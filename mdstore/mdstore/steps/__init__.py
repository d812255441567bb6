"""What a pipeline step logs about itself. Installs with grpcio and protobuf only; begin at `mdstore.run`."""
