"""What lies on disk: stores, the frames cube, records of what is done, the lock, versions of a product."""
