"""A model and its data as a function of one parameter vector: which parameters, which directions, which loss."""
