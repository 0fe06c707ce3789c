"""The panel: recognisers of others whose files the user fetches, each an engine that is a graph without weights.

``entries.json`` says what each of them is and where its file comes from; a reader per kind of file says what is computed and where in the
file every constant lies; ``build.py`` makes the engine from both.
"""
