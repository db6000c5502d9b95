"""Data sets, and the base set and pool that an experiment takes from them."""
