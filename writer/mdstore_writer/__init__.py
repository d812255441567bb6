"""Observes clusters and event sources and records what happened."""
