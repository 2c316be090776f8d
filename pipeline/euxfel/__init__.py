"""Raw runs as the facility writes them: files, frames, labels, audit, and the draft of a config."""
