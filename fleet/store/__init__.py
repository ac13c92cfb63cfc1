# SPDX-License-Identifier: Apache-2.0
"""The database: tables, migrations, transactions and the queries that are shared."""
