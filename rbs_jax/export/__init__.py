"""A trained model as others load it: transformers and vLLM, or plain orbax."""
