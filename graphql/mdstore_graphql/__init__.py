"""The public API: artifacts, executions, runs and lineage over GraphQL."""
