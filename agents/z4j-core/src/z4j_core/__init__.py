"""What agents and brain share: frames, signing, events, actions and the adapter contract.

Standard library only, so that it can never clash with what a host application has pinned.
"""

from z4j_core.versions import PROTOCOL_VERSION

__all__ = ["PROTOCOL_VERSION"]
