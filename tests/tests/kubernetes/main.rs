//! Maille on a real Kubernetes, with a real kubelet and real pods. The cluster comes up once for all of them.

mod ground;
