"""A lean AMQP 0-9-1 publisher: one connection, frames written a loop turn at a time, confirms taken in ranges."""
