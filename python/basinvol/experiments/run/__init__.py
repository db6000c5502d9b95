"""Training and measuring the models of an experiment."""
