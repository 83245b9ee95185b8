"""Layouts of pictures and editing pairs: `open_x(config)` gives numbered records; what cannot be read is `Rejected`."""
