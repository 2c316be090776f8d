"""The three-exponential form, its fit, and what the fit cannot know."""
