//! An object of any kind: how it is told from its text, parsed and written.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _},
    ser::SerializeStruct,
};

use super::{
    AuthorizationPolicy, GrpcRoute, HttpRoute, MeshSettings, Metadata, Service, TrafficPolicy,
    Workload,
};

/// The closed list of kinds. The numbers are part of the log's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// core v1 `Service`.
    Service = 0,
    /// Gateway API `HTTPRoute`.
    HttpRoute = 1,
    /// `Workload`: a host's program.
    Workload = 2,
    /// `AuthorizationPolicy`: who may call whom.
    AuthorizationPolicy = 3,
    /// `TrafficPolicy`: how a service is called.
    TrafficPolicy = 4,
    /// `MeshSettings`: what holds for all.
    MeshSettings = 5,
    /// Gateway API `GRPCRoute`.
    GrpcRoute = 6,
}

impl Kind {
    /// Every kind, in the order in which tables show them.
    pub const ALL: [Kind; 7] = [
        Kind::Service,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::Workload,
        Kind::AuthorizationPolicy,
        Kind::TrafficPolicy,
        Kind::MeshSettings,
    ];

    /// The `kind` as documents write it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::HttpRoute => "HTTPRoute",
            Kind::GrpcRoute => "GRPCRoute",
            Kind::Workload => "Workload",
            Kind::AuthorizationPolicy => "AuthorizationPolicy",
            Kind::TrafficPolicy => "TrafficPolicy",
            Kind::MeshSettings => "MeshSettings",
        }
    }

    /// The `apiVersion` as documents write it.
    pub const fn api_version(self) -> &'static str {
        match self {
            Kind::Service => "v1",
            Kind::HttpRoute | Kind::GrpcRoute => "gateway.networking.k8s.io/v1",
            _ => "maille.dev/v1alpha1",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What distinguishes one kind from another.
pub trait Spec:
    Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The kind that this is the `spec` of.
    const KIND: Kind;
}

/// A Kubernetes-shaped object. Its JSON has `apiVersion`, `kind`, `metadata` and `spec`, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<S> {
    /// Name, namespace, labels, annotations.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: S,
}

impl<S: Spec> Object<S> {
    /// The text that is stored: no white space, fixed order of fields, maps sorted, defaults left out.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .expect("an object's maps have string keys, so it always has a JSON form")
    }

    /// Reads stored JSON.
    ///
    /// # Errors
    /// The text is not an object of this kind.
    pub fn from_json(json: &str) -> Result<Self, KindError> {
        serde_json::from_str(json).map_err(|source| KindError {
            kind: S::KIND,
            source,
        })
    }
}

/// JSON that is not an object of the kind it was said to be.
#[derive(Debug, thiserror::Error)]
#[error("JSON does not read as {kind}")]
pub struct KindError {
    kind: Kind,
    source: serde_json::Error,
}

impl<S: Spec> Serialize for Object<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut fields = serializer.serialize_struct("Object", 4)?;
        fields.serialize_field("apiVersion", S::KIND.api_version())?;
        fields.serialize_field("kind", S::KIND.name())?;
        fields.serialize_field("metadata", &self.metadata)?;
        fields.serialize_field("spec", &self.spec)?;
        fields.end()
    }
}

impl<'de, S: Spec> Deserialize<'de> for Object<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawObject::<S>::deserialize(deserializer)?;
        if raw.kind != S::KIND.name() || raw.api_version != S::KIND.api_version() {
            let (kind, version) = (S::KIND.name(), S::KIND.api_version());
            return Err(D::Error::custom(format!(
                "expected apiVersion `{version}` and kind `{kind}`"
            )));
        }
        Ok(Self {
            metadata: raw.metadata,
            spec: raw.spec,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "S: Spec")]
struct RawObject<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

/// An object whose kind is known only at run time.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the kind of its name")]
pub enum AnyObject {
    Service(Arc<Service>),
    HttpRoute(Arc<HttpRoute>),
    GrpcRoute(Arc<GrpcRoute>),
    Workload(Arc<Workload>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    TrafficPolicy(Arc<TrafficPolicy>),
    MeshSettings(Arc<MeshSettings>),
}

impl AnyObject {
    /// Reads the JSON of an object of this kind.
    ///
    /// # Errors
    /// The text is not an object of this kind.
    pub fn from_json(kind: Kind, json: &str) -> Result<Self, KindError> {
        Ok(match kind {
            Kind::Service => Self::Service(Arc::new(Object::from_json(json)?)),
            Kind::HttpRoute => Self::HttpRoute(Arc::new(Object::from_json(json)?)),
            Kind::GrpcRoute => Self::GrpcRoute(Arc::new(Object::from_json(json)?)),
            Kind::Workload => Self::Workload(Arc::new(Object::from_json(json)?)),
            Kind::AuthorizationPolicy => {
                Self::AuthorizationPolicy(Arc::new(Object::from_json(json)?))
            }
            Kind::TrafficPolicy => Self::TrafficPolicy(Arc::new(Object::from_json(json)?)),
            Kind::MeshSettings => Self::MeshSettings(Arc::new(Object::from_json(json)?)),
        })
    }

    /// The text that is stored.
    pub fn to_json(&self) -> String {
        match self {
            Self::Service(object) => object.to_json(),
            Self::HttpRoute(object) => object.to_json(),
            Self::GrpcRoute(object) => object.to_json(),
            Self::Workload(object) => object.to_json(),
            Self::AuthorizationPolicy(object) => object.to_json(),
            Self::TrafficPolicy(object) => object.to_json(),
            Self::MeshSettings(object) => object.to_json(),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::Workload(_) => Kind::Workload,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::TrafficPolicy(_) => Kind::TrafficPolicy,
            Self::MeshSettings(_) => Kind::MeshSettings,
        }
    }

    /// Its name and what is pinned to it.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Service(object) => &object.metadata,
            Self::HttpRoute(object) => &object.metadata,
            Self::GrpcRoute(object) => &object.metadata,
            Self::Workload(object) => &object.metadata,
            Self::AuthorizationPolicy(object) => &object.metadata,
            Self::TrafficPolicy(object) => &object.metadata,
            Self::MeshSettings(object) => &object.metadata,
        }
    }
}
