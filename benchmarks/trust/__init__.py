"""How far estimators are from known volumes, and what they say of networks: `python -m benchmarks.trust`."""
