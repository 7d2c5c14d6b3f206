"""The five networks of the paper's Table 2, each written from its own publication.

All hear the same 2 s segments of MFCC at 10 ms that GLRF hears, without the recording's level, and
return plain logits: a comparison is then not of gain. Epochs, augmentation and sampling are the
same for all; batch size, learning rate and loss are each network's own, GLRF's from a search on
these corpora and its peers' from their publications, whose trainings are several times as long.
What each takes of that input, and what its publication leaves open, stands at the head of its file.
"""
