"""The five networks of the paper's Table 2, each written from its own publication.

All hear the same 2 s segments of MFCC at 10 ms that GLRF hears, without the recording's level, and
return plain logits: a comparison is then of networks, not of gain or of training. What each takes
of that input, and what its publication leaves open, stands at the head of its file.
"""
