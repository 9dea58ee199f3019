"""What the command line can do: one file a command, or an idea that several of them share."""
