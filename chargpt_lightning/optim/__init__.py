"""How weights are updated: parameter groups, Muon, the schedule of the learning rate."""
