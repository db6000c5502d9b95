"""From radii to a number that says what it is worth: measures, diagnostics, verdicts, how an estimate reads."""
