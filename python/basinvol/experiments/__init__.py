"""The paper's experiments: described in one place, run, recorded, drawn and reported."""
