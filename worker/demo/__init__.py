"""A world to run against without an account anywhere: the five vendors on loopback, and tenants of theirs."""
