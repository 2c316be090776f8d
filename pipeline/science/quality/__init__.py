"""How far runs and their axes can be trusted."""
