"""What all models share: devices, offloading, loading whole or not at all."""
