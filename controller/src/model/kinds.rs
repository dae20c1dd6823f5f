//! The mesh's objects as strict serde types: what `maille apply -f` takes and what is stored, as canonical JSON.
//!
//! One file per kind. Unknown fields are refused everywhere. Fields that stand at their default are left out when an
//! object is written, so that one meaning has one text.

pub mod authorization_policy;
pub mod duration;
pub mod grpc_route;
pub mod http_route;
pub mod mesh_settings;
pub mod metadata;
pub mod object;
pub mod service;
pub mod traffic_policy;
pub mod workload;

pub use authorization_policy::{Action, AuthorizationPolicy, AuthorizationPolicySpec};
pub use duration::Duration;
pub use grpc_route::{GrpcRoute, GrpcRouteSpec};
pub use http_route::{HttpRoute, HttpRouteSpec};
pub use mesh_settings::{MeshSettings, MeshSettingsSpec, MtlsMode};
pub use metadata::Metadata;
pub use object::{AnyObject, Kind, KindError, Object, Spec};
pub use service::{
    AppProtocol, PortRef, Service, ServicePort, ServiceSpec, ServiceType, Transport,
};
pub use traffic_policy::{TrafficPolicy, TrafficPolicySpec};
pub use workload::{Workload, WorkloadSpec};

/// For `skip_serializing_if`: whether a value is its type's default.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
