"""What a watcher of a raw folder sees, decides and remembers."""
