"""Follows the store's change feed into a graph and answers lineage questions."""
