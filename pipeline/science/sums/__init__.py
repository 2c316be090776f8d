"""Pulses added up, bin by bin, in sums that merge without rounding."""
