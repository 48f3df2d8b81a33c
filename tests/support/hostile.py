"""An object that runs code if it is unpickled."""

import os


class Payload:
    """Leaves a trace if it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)
