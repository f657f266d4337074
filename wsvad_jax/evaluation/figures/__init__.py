"""Figures for papers: snippets before and after a model, and curves of each class."""
