"""Recipes: stages of engine calls as data, the descent with its law, draws and optimisers."""
