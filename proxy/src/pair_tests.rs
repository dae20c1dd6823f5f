//! A pair of proxies on the loopback, end to end: what the application sees, and what the client gets.

mod failures;
mod foreign;
mod foreign_endpoints;
mod http1;
mod http2;
mod opaque;
mod policy;
mod retries;
mod routes;
mod several;
