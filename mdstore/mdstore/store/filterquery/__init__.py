"""MLMD's filter queries: from text (`parsing`) over types (`checking`) to conditions in SQL (`conditions`, `plan`)."""
