"""The paper's experiments: they are described in one place, run, recorded, drawn and reported."""
