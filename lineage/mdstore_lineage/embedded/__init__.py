"""The lineage graph in one SQLite file: `graph.py` answers, `projection.py` writes, `walk.py` and `paths.py` search."""
