"""Speed and size against named peers, as ratios within one run. Not part of the package; see README.md here."""
