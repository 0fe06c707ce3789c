"""The page that protects photos in a browser, and what serves it on this machine."""
