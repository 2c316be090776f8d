"""Watching a raw folder: reading its state, deciding what to process, remembering earlier states."""
