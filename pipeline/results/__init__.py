"""After processing: products looked up, compared, summarised, planned with, exported."""
