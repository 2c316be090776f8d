"""The stages, one module each: what is made from what, and when what is there is current."""
