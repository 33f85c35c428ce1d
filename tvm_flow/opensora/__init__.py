"""What stands around Open-Sora's transformer: the text encoder, its outputs as files, and the autoencoders.

Everything is read from local folders; nothing is ever fetched. Reading prompt embeddings needs no extra; the encoders
and autoencoders need ``pip install 'tvm-flow[opensora]'``.
"""

from tvm_flow.opensora.autoencoder import Autoencoder, ImageVAE, VideoVAE, load_autoencoder
from tvm_flow.opensora.embeddings import PromptEmbeddings, load_embeddings, save_embeddings
from tvm_flow.opensora.text_encoder import TextEncoder, load_text_encoder

__all__ = [
    "Autoencoder",
    "ImageVAE",
    "PromptEmbeddings",
    "TextEncoder",
    "VideoVAE",
    "load_autoencoder",
    "load_embeddings",
    "load_text_encoder",
    "save_embeddings",
]
