"""Queue → effect: decode → effect → decide → settle."""
