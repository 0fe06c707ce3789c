"""Faces in photos: found, aligned, looked at for what covers them, and pasted back."""
