"""Miniature counterparts of what a real run downloads: a CLIP, a LLaVA and a text-to-image diffusion model.

They live in the stock classes and folder formats of transformers and diffusers, so that everything else in this
package meets them on the same loading path as LLaVA-1.5 and Stable Diffusion. `builders.build` makes them.
"""
