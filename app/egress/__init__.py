"""The only way out: one SSRF-safe client for upstreams, webhooks and callbacks."""
