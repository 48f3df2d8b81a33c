"""Parameter groups, Muon and the learning rate schedule."""
