"""A run on disk: written whole, read without torch."""
