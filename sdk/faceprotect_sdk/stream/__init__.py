"""Video: faces are followed from frame to frame, and a change that was found for one frame is carried along until a newer one is there.

``settings.py``: what a caller may say. ``motion.py``: how a face moved between two frames. ``layer.py``: a change that lies on a face, and
its drawing. ``followed.py``: the state of one face. ``work.py``: what is asked of the networks. ``worker.py``: the thread that runs them.
``stream.py``: :class:`Stream`, which brings them together. ``recording.py``: where frames come from and go to on the command line.
"""
