"""The whole system on one machine: what ``connectors up`` starts, where it keeps its data, how it ends."""
