"""Training, assessment and export of GLRF: the only package that imports torch."""
