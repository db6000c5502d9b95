"""The arguments of users, taken or refused in one sentence that says what to do."""
