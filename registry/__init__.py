"""For this tenant and this connector: does it work right now, and if not, whose fault is it and what to do."""
