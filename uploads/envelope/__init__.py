"""The envelope "GVE1": sealing for a recipient, signed documents, receipts. Specification: docs/envelope.md.

`unseal` is imported by the recipient's tool only; nothing else in this package imports it.
"""
