"""Folders of images, one sub-folder a class: looked at in pieces, and put together."""
