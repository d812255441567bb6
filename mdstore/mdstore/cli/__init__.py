"""The `mdstore` command."""
