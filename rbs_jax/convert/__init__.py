"""Hugging Face folders: config.json and safetensors to a model of ours, and back."""
