"""Damaged raw files by the thousand: whatever is wrong with one, the others give what they gave, and what is lost is told."""
