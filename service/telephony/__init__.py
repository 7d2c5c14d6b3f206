"""Telephony platforms as front ends: their messages in, the same session behind."""
