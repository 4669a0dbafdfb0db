"""Dates as the gateway writes them everywhere (ISO 8601)."""
