"""After processing: look up, compare, summarise and export products, and plan with them."""
