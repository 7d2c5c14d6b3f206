"""A result as a page of its own: no script, no other host, to be read, printed or sent on."""
