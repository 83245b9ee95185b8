"""Generation: the denoiser, its autoencoder, guidance and sampling."""
