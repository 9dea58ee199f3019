"""What happens, told to others: transitions and incidents become messages, and messages go to webhooks.

`gather` reads the streams of transitions and incidents, decides what is worth telling (`telling`), and puts messages
into one outbox; `deliver` sends the outbox to each webhook in order, at least once. Both remember in Redis how far they
are, so it does not matter which process does it.
"""
