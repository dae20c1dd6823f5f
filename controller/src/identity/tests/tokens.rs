//! Join tokens that are not good, each with its own words.

use super::*;

#[tokio::test]
async fn bad_tokens_are_refused_with_what_to_do() {
    let site = Site::issuing().await;
    let refused = |token: JoinToken, words: &'static str| {
        let site = &site;
        async move {
            let text = site.certify(&token).await.unwrap_err().to_string();
            assert!(text.contains(words), "`{words}` is not in `{text}`");
        }
    };
    let used = site.token(|_| {});
    site.certify(&used).await.unwrap();
    refused(used, "was used already").await;

    let good = site.token(|_| {});
    refused(
        JoinToken {
            secret: vec![1; 32],
            ..good.clone()
        },
        "is not known here",
    )
    .await;
    refused(
        JoinToken {
            id: "000000000000".to_owned(),
            ..good.clone()
        },
        "is not known here",
    )
    .await;
    refused(
        JoinToken {
            roots_sha256: vec![[9; 32]],
            ..good.clone()
        },
        "wrong roots' hash",
    )
    .await;
    let controllers = site.token(|wanted| wanted.purpose = TokenPurpose::Controller);
    refused(controllers, "is for a controller, not for a workload").await;
    // What the token claims to grant is for people; what it grants is what the cluster recorded.
    let boastful = JoinToken {
        spiffe_id: "spiffe://mesh.local/ns/shop/sa/admin".to_owned(),
        ..good
    };
    assert_eq!(
        "spiffe://mesh.local/ns/shop/sa/web",
        site.certify(&boastful).await.unwrap().spiffe_id
    );
    site.supervisor.stop().await;
}

#[tokio::test]
async fn an_expired_token_says_since_when() {
    let site = Site::issuing().await;
    let token = site.token(|wanted| wanted.lifetime_seconds = 60);
    let state = site.alone.now();
    let text = super::super::tokens::check(&state, &token, TokenPurpose::Workload, now() + 100)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("expired 40 s ago") || text.contains("expired 39 s ago"),
        "{text}"
    );
    site.supervisor.stop().await;
}

#[tokio::test]
async fn tokens_that_cannot_be_granted_are_refused_where_they_are_made() {
    let site = Site::issuing().await;
    let state = site.alone.now();
    let check = |namespace: &str, account: &str, lifetime: u32, words: &str| {
        let wanted = NewToken {
            purpose: TokenPurpose::Workload,
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            lifetime_seconds: lifetime,
        };
        let text = new_token(&state, &wanted).unwrap_err().to_string();
        assert!(text.contains(words), "`{words}` is not in `{text}`");
    };
    check(
        "maille-system",
        "maille-controller",
        0,
        "the controllers' own identity",
    );
    check("shop", "web", 31 * 86_400, "30 days is the most");
    check("shop/other", "web", 0, "shop/other");
    site.supervisor.stop().await;
}
