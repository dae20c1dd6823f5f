//! Tests that hold for every kind of sidecar: once with native ones on both sides, once with Envoys.

macro_rules! for_each_kind {
    ($($test:ident),+ $(,)?) => {
        mod native {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test([maille_tests::sidecar::Kind::Native; 2]).await
            })+
        }

        mod envoy {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test([maille_tests::sidecar::Kind::Envoy; 2]).await
            })+
        }
    };
}
