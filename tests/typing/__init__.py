"""What a type checker says of users' code."""
