"""The dashboard: pages for people, rendered here, on what the API knows. They work without JavaScript."""
