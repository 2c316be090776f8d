"""Where blocks of trains are worked on, and how large they are."""
