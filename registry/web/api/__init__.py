"""The versioned API, one file for each kind of thing."""
