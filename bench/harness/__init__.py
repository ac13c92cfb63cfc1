# SPDX-License-Identifier: Apache-2.0
"""What every measurement shares: the document, the machine, running and rendering."""
