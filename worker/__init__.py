"""The background side: schedules checks, makes them, publishes what they found. Imports `registry`."""
