"""Flags for two devices."""

DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
FSDP2 = ["--config", "fsdp2.yaml"]
