"""From pulses to spectra and delay scans with their errors."""
