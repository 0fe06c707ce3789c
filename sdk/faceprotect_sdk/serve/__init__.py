"""The service ``faceprotect-sdk serve``: photos over HTTP, worked on in processes of their own, and never on a disk.

From the outside in: ``run`` (uvicorn and signals), ``protocol`` (slow clients), ``app`` (paths), ``upload`` (bodies), ``crew`` (processes
and their queue), ``desk`` (what a process does), ``answers`` (what is sent back).
"""
