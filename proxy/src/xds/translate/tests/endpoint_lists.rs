//! Endpoints.

use super::*;
use crate::snapshot::MeshForm;

fn assignment(
    extra: &v1::EndpointExtra,
    change: impl FnOnce(&mut ClusterLoadAssignment),
) -> ClusterLoadAssignment {
    let mut message = endpoints(PORT, &[]);
    message.endpoints[0].lb_endpoints = vec![endpoint("[fd00::9]:8080", extra)];
    change(&mut message);
    message
}

#[test]
fn every_field_arrives() {
    let message = assignment(&native(), |one| {
        let endpoint = &mut one.endpoints[0].lb_endpoints[0];
        endpoint.health_status = base::HealthStatus::Unhealthy.into();
        endpoint.load_balancing_weight = Some(UInt32Value { value: 3 });
    });
    let Value::Endpoints(found) = read(PORT, &message).unwrap() else {
        panic!("no endpoints");
    };
    let one = &found.endpoints[0];
    assert_eq!(one.address.to_string(), "[fd00::9]:8080");
    assert_eq!((one.health, one.weight), (Health::Unhealthy, 3));
    assert_eq!((&*one.locality.region, &*one.locality.zone), ("eu", "a"));
    let mesh = one.mesh.as_ref().unwrap();
    assert_eq!(
        (mesh.port, &*mesh.identity),
        (4743, "spiffe://mesh.test/ns/shop/sa/api")
    );
    let plain = v1::EndpointExtra::default();
    let Value::Endpoints(found) = read(PORT, &assignment(&plain, |_| {})).unwrap() else {
        panic!("no endpoints");
    };
    assert!(found.endpoints[0].mesh.is_none());
}

#[test]
fn an_envoy_has_a_mesh_port_and_a_grpc_program_keeps_its_own() {
    for (mesh, form, port) in [
        (v1::Mesh::Native, MeshForm::Native, 4743),
        (v1::Mesh::Envoy, MeshForm::Plain, 4743),
        (v1::Mesh::Grpc, MeshForm::Plain, 8080),
    ] {
        let mut extra = native();
        extra.mesh = mesh.into();
        let Value::Endpoints(found) = read(PORT, &assignment(&extra, |_| {})).unwrap() else {
            panic!("no endpoints");
        };
        let found = found.endpoints[0].mesh.as_ref().unwrap();
        assert_eq!((found.form, found.port), (form, port), "{mesh:?}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let check = |change: fn(&mut v1::EndpointExtra), expected: &str| {
        let mut extra = native();
        change(&mut extra);
        let expected = format!("endpoints[0].lb_endpoints[0].{expected}");
        refuse(PORT, &assignment(&extra, |_| {}), &expected);
    };
    check(|one| one.mesh = 9, "mesh: 9 is not known");
    check(|one| one.mesh_port = 0, "mesh_port: 0 is no port");
    check(|one| one.identity.clear(), "identity: is empty");
    let unknown = assignment(&native(), |one| {
        one.endpoints[0].lb_endpoints[0].health_status = 0;
    });
    refuse(
        PORT,
        &unknown,
        "endpoints[0].lb_endpoints[0].health_status: 0 is neither HEALTHY nor UNHEALTHY",
    );
    let weightless = assignment(&native(), |one| {
        one.endpoints[0].lb_endpoints[0].load_balancing_weight = Some(UInt32Value { value: 0 });
    });
    refuse(
        PORT,
        &weightless,
        "endpoints[0].lb_endpoints[0].load_balancing_weight: must be above zero",
    );
}
