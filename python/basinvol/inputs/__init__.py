"""What a user hands over, taken or refused in one sentence that says what to do."""
