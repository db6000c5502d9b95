"""Results in files: what they hold, how it is written, and tables for pandas and xarray."""
