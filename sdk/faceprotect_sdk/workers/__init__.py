"""Processes that each hold one protector: what a batch with ``--jobs`` and the service are made of."""
