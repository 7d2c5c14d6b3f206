import torch

torch.set_num_threads(1)  # small networks are slower on two threads than on one
