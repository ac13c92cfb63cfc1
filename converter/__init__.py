# SPDX-License-Identifier: Apache-2.0
"""edge-convert: a trained model in, a verified and reproducible bundle out.

Start reading at ``pipeline``. The parent process never imports a training framework;
``loaders`` runs one in a subprocess.
"""
