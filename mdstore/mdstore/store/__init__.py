"""The store itself: operations on the database of ML Metadata, the change log, and reading for those above."""
