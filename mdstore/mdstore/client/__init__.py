"""The client half: what talks to a store. Installs with grpcio and protobuf only."""
