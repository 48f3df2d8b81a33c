"""The verse as a text of several files."""

import hashlib

from support.command_line import VERSE

WHOLE = VERSE * 20
SHA256 = hashlib.sha256(WHOLE.encode()).hexdigest()
