//! Maille on a real Kubernetes, with a real kubelet and real pods.

mod ground;
mod identity;
mod watching;
