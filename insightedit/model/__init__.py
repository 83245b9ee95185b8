"""The editor: comprehension, bridge and denoiser as one module, built from a config."""
