# SPDX-License-Identifier: Apache-2.0
"""From the normal form of one kind of model file to another kind, without a framework.

One module a way. Each covers the operators that it names, and refuses the rest by name.
"""
