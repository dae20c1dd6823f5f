//! Messages as people read them: by their descriptors, as YAML with the names of the protos.

use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;
use xds_api::generated::DESCRIPTORS;

/// A message of this type as a value; where it cannot be read, why.
pub fn value(type_url: &str, bytes: &[u8]) -> Result<Value, String> {
    let name = type_url.rsplit_once('/').map_or(type_url, |(_, name)| name);
    let message = pool()?.get_message_by_name(name);
    let descriptor =
        message.ok_or_else(|| format!("messages of type {name} are not known here"))?;
    let read = DynamicMessage::decode(descriptor, bytes).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

/// The same as YAML.
pub fn yaml(type_url: &str, bytes: &[u8]) -> String {
    let text = value(type_url, bytes)
        .and_then(|value| serde_saphyr::to_string(&value).map_err(|error| error.to_string()));
    text.unwrap_or_else(|why| format!("# {} bytes: {why}\n", bytes.len()))
}

fn pool() -> Result<&'static DescriptorPool, String> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        DescriptorPool::decode(DESCRIPTORS).map_err(|error| format!("the descriptors: {error}"))
    });
    pool.as_ref().map_err(Clone::clone)
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};
    use xds_api::generated::envoy::config::core::v3::TypedExtensionConfig;
    use xds_api::generated::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use xds_api::generated::google::protobuf::Any;

    use super::*;

    #[test]
    fn a_message_is_read_with_what_is_packed_in_it() {
        let inner = ClusterLoadAssignment {
            cluster_name: "shop/web:80".to_owned(),
            ..Default::default()
        };
        let outer = TypedExtensionConfig {
            name: "x".to_owned(),
            typed_config: Some(Any {
                type_url: ClusterLoadAssignment::type_url(),
                value: inner.encode_to_vec().into(),
            }),
        };
        let text = yaml(&TypedExtensionConfig::type_url(), &outer.encode_to_vec());
        insta::assert_snapshot!(text);
        assert!(yaml("a/b.C", &[1, 2]).starts_with("# 2 bytes: messages of type b.C"));
    }
}
