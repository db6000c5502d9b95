"""Networks of many kinds as programs of a few operations, which the compiled engine executes."""
