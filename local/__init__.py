"""Embedded servers: a private RabbitMQ node and a private PostgreSQL cluster, for `usher up` and the tests."""
