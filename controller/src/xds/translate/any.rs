//! Small parts that many messages share.

use std::collections::BTreeMap;

use prost::Name;
use xds_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_api::envoy::config::core::v3::{
    AggregatedConfigSource, ConfigSource, Locality, Metadata, SelfConfigSource,
};
use xds_api::google::protobuf::{Any, Duration, UInt32Value};

use crate::model::kinds;

/// The key of the dialect's own metadata.
const METADATA_KEY: &str = "maille.v1";

/// A message with its type.
pub(in crate::xds) fn pack<M: Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec().into(),
    }
}

/// The dialect's own metadata.
pub(in crate::xds) fn metadata<M: Name>(message: &M) -> Option<Metadata> {
    let typed_filter_metadata = BTreeMap::from([(METADATA_KEY.to_owned(), pack(message))]);
    Some(Metadata {
        typed_filter_metadata,
        ..Default::default()
    })
}

/// "From this same stream."
pub(in crate::xds) fn ads() -> Option<ConfigSource> {
    let ads = ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
    Some(ConfigSource {
        config_source_specifier: Some(ads),
        ..Default::default()
    })
}

/// "To this same server."
pub(in crate::xds) fn here() -> ConfigSource {
    let here = ConfigSourceSpecifier::Self_(SelfConfigSource::default());
    ConfigSource {
        config_source_specifier: Some(here),
        ..Default::default()
    }
}

/// A wrapped number.
pub(in crate::xds) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A length of time; the kinds' durations are bounded, so that it always fits.
pub(in crate::xds) fn duration(value: kinds::Duration) -> Duration {
    let value = value.get();
    Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    }
}

/// `<region>/<zone>`; nothing where it is empty.
pub(in crate::xds) fn locality(text: &str) -> Option<Locality> {
    let (region, zone) = text.split_once('/').unwrap_or((text, ""));
    (!text.is_empty()).then(|| Locality {
        region: region.to_owned(),
        zone: zone.to_owned(),
        sub_zone: String::new(),
    })
}
