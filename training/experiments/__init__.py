"""What the experiments share: cached features, the table that keeps every finished cell, heads, figures."""
