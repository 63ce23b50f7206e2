"""HTTP → exchange: receive → verify → normalize → publish."""
