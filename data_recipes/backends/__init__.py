"""The models that recipes call, behind small interfaces (`base`): transformers, diffusers, endpoints or oracles."""
