//! A pair of proxies on the loopback, end to end: what the application sees, and what the client gets.

mod http1;
mod opaque;
