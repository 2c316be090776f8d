"""Known signals in measured pulses: what is put in, into which pulses, and what a fit makes of it."""
