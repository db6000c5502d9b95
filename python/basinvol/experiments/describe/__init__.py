"""What an experiment is: data, networks, trainings and landscapes as plain data."""
