"""Claims, figures and the page of a run, from its records alone."""
