"""The programs that Usher is compared with: small, and as fast as their own documentation makes them.

Each reads PORT, AMQP_URL, DATABASE_URL and SIGNING_SECRET, and answers POST /webhooks/clerk with 202.
"""
