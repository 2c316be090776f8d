"""Ground- and excited-state DOS fitted to the spectra."""
