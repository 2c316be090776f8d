"""What a pulse is: its delay, whether it counts, which beam is which."""
