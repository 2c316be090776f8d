"""What every pulse is: its delay, its beams, whether it counts."""
