//! The services by which resources are asked for: all types on one stream, or one type a service. Their paths are facts.

use crate::conversation::Form;
use crate::type_url::TypeUrl;

/// One gRPC service with its two streaming methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its full name.
    pub name: &'static str,
    /// The type that its requests imply; `None`: each request names its own.
    pub kind: Option<TypeUrl>,
    state: &'static str,
    delta: &'static str,
}

impl Service {
    /// All that there are, the aggregated one first.
    pub const ALL: [Self; 7] = [
        Self {
            name: "envoy.service.discovery.v3.AggregatedDiscoveryService",
            kind: None,
            state: "StreamAggregatedResources",
            delta: "DeltaAggregatedResources",
        },
        Self {
            name: "envoy.service.cluster.v3.ClusterDiscoveryService",
            kind: Some(TypeUrl::Cluster),
            state: "StreamClusters",
            delta: "DeltaClusters",
        },
        Self {
            name: "envoy.service.endpoint.v3.EndpointDiscoveryService",
            kind: Some(TypeUrl::Endpoints),
            state: "StreamEndpoints",
            delta: "DeltaEndpoints",
        },
        Self {
            name: "envoy.service.secret.v3.SecretDiscoveryService",
            kind: Some(TypeUrl::Secret),
            state: "StreamSecrets",
            delta: "DeltaSecrets",
        },
        Self {
            name: "envoy.service.listener.v3.ListenerDiscoveryService",
            kind: Some(TypeUrl::Listener),
            state: "StreamListeners",
            delta: "DeltaListeners",
        },
        Self {
            name: "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
            kind: Some(TypeUrl::Extension),
            state: "StreamExtensionConfigs",
            delta: "DeltaExtensionConfigs",
        },
        Self {
            name: "envoy.service.route.v3.RouteDiscoveryService",
            kind: Some(TypeUrl::Route),
            state: "StreamRoutes",
            delta: "DeltaRoutes",
        },
    ];

    /// The method of this form.
    pub fn method(&self, form: Form) -> &'static str {
        match form {
            Form::Delta => self.delta,
            Form::StateOfTheWorld => self.state,
        }
    }

    /// The method's path.
    pub fn path(&self, form: Form) -> String {
        format!("/{}/{}", self.name, self.method(form))
    }

    /// The service and the form of a path.
    pub fn find(path: &str) -> Option<(Self, Form)> {
        let (name, method) = path.strip_prefix('/')?.split_once('/')?;
        let service = Self::ALL.into_iter().find(|one| one.name == name)?;
        let form = [Form::Delta, Form::StateOfTheWorld]
            .into_iter()
            .find(|form| service.method(*form) == method)?;
        Some((service, form))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_method() {
        for service in Service::ALL {
            for form in [Form::Delta, Form::StateOfTheWorld] {
                assert_eq!(Service::find(&service.path(form)), Some((service, form)));
            }
        }
        assert_eq!(Service::ALL.len(), TypeUrl::ALL.len() + 1);
        for path in [
            "",
            "/",
            "/envoy.service.route.v3.RouteDiscoveryService",
            "/envoy.service.route.v3.RouteDiscoveryService/FetchRoutes",
            "/envoy.service.route.v3.RouteDiscoveryService/StreamClusters",
        ] {
            assert_eq!(Service::find(path), None, "{path}");
        }
    }
}
