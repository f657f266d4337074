"""Shares trained models through the Hugging Face hub."""
