"""What every dataset must look like: how that is said (`spec`), and for which stage or fit."""
