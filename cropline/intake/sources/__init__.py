"""Where items come from. Each kind of source gives pages of items since a moment, and knows whether they are complete."""
