//! What the tests and benches of the mesh as a whole share: applications that know nothing of the mesh, and load that is counted at them.

pub mod backend;
pub mod load;
