"""The HTTP API and the dashboard: an adapter at the edge, which needs the extra ``web``.

It reads what the workers found; no GET ever calls a vendor or the configuration store, except for the configurations
themselves and the audit log, which are nowhere else.
"""
