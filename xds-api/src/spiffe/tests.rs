//! What is and what is not a SPIFFE id.
#![allow(clippy::unwrap_used)]

use super::*;

fn check(text: &str, expected: Result<[Option<&str>; 3], SpiffeError>) {
    let read = text.parse::<SpiffeId>();
    if let Ok(id) = &read {
        assert_eq!(id.as_str(), text);
        assert_eq!(id.to_string(), text);
    }
    let parts = read
        .as_ref()
        .map(|id| [id.namespace(), id.service_account(), id.admin_name()]);
    assert_eq!(parts, expected.as_ref().copied(), "{text}");
}

#[test]
fn a_workload_has_a_namespace_and_a_service_account() {
    check(
        "spiffe://example.org/ns/shop/sa/web",
        Ok([Some("shop"), Some("web"), None]),
    );
    check(
        "spiffe://a/ns/0/sa/a.b-c.d",
        Ok([Some("0"), Some("a.b-c.d"), None]),
    );
    let domain: TrustDomain = "my_mesh.example".parse().unwrap();
    let id = SpiffeId::workload(&domain, "shop", "web").unwrap();
    assert_eq!(id.as_str(), "spiffe://my_mesh.example/ns/shop/sa/web");
    assert_eq!(id.trust_domain(), "my_mesh.example");
}

#[test]
fn an_operator_has_a_name() {
    check(
        "spiffe://example.org/admin/Ada.L_1-x",
        Ok([None, None, Some("Ada.L_1-x")]),
    );
    let domain: TrustDomain = "example.org".parse().unwrap();
    assert_eq!(
        SpiffeId::admin(&domain, "ada").unwrap().as_str(),
        "spiffe://example.org/admin/ada"
    );
}

#[test]
fn what_is_not_an_id_is_refused_with_its_reason() {
    use SpiffeError::*;
    let path = |text: &str| check(text, Err(Path(text.into())));
    for text in [
        "",
        "example.org",
        "https://example.org/ns/a/sa/b",
        "SPIFFE://e/ns/a/sa/b",
        " spiffe://e/ns/a/sa/b",
    ] {
        check(text, Err(Scheme(text.into())));
    }
    for domain in ["", "Example.org", "user@e", "e:80", "e%41", "é"] {
        check(
            &format!("spiffe://{domain}/ns/a/sa/b"),
            Err(TrustDomain(domain.into())),
        );
    }
    path("spiffe://example.org");
    path("spiffe://e/");
    path("spiffe://e/ns/a");
    path("spiffe://e/ns/a/sa/b/");
    path("spiffe://e/ns/a/sa/b/c");
    path("spiffe://e//ns/a/sa/b");
    path("spiffe://e/NS/a/sa/b");
    path("spiffe://e/admin/a/b");
    for name in [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "a b",
        "a?b",
        "é",
        "..",
        &"a".repeat(64),
    ] {
        check(
            &format!("spiffe://e/ns/{name}/sa/b"),
            Err(Namespace(name.into())),
        );
    }
    for name in [
        "",
        ".",
        "..",
        "a..b",
        "a.",
        "-a",
        "a#b",
        "a?b",
        "A",
        &"a.".repeat(130),
    ] {
        check(
            &format!("spiffe://e/ns/a/sa/{name}"),
            Err(ServiceAccount(name.into())),
        );
    }
    for name in ["", ".", "..", "a b", "a%20b", "é", &"a".repeat(64)] {
        check(
            &format!("spiffe://e/admin/{name}"),
            Err(AdminName(name.into())),
        );
    }
    let long = format!("spiffe://e/ns/a/sa/{}", "b".repeat(2048));
    check(&long, Err(TooLong(long.len())));
    let domain = "d".repeat(256);
    check(
        &format!("spiffe://{domain}/ns/a/sa/b"),
        Err(TrustDomain(domain)),
    );
}

#[test]
fn a_part_cannot_smuggle_in_another() {
    let domain: super::TrustDomain = "e".parse().unwrap();
    assert!(SpiffeId::workload(&domain, "a/sa/b", "c").is_err());
    assert!(SpiffeId::workload(&domain, "a", "b/c").is_err());
    assert!(SpiffeId::admin(&domain, "a/b").is_err());
}
