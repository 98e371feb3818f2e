"""Where data comes from, behind one protocol (`base`); no source imports a source."""
