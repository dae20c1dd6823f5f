//! The command line of `stat`.

use clap::Args;

use super::objects::Scope;

/// The narrowest and the widest window that controllers answer for, in seconds.
const WINDOW: std::ops::RangeInclusive<i64> = 10..=300;

/// `maille stat`
///
/// The clients count, and tell their controllers every few seconds: native sidecars, Envoys and gRPC programs. What they told is kept in the controllers' memory
/// for five minutes. A request that was tried again is counted for each try. What nobody has told is shown as `-`, never as 0; whoever is connected and tells nothing is named.
#[derive(Args, Debug)]
pub struct Stat {
    /// What a line is about: `service` (calls to it, by whomever) or `workload` (calls that it makes), all of them or, with `/NAME`, one.
    #[arg(value_name = "KIND[/NAME]", default_value = "service", value_parser = parse_what)]
    pub what: What,
    #[command(flatten)]
    pub scope: Scope,
    /// Only calls that this workload makes; `<namespace>/<workload>` for one of another namespace.
    #[arg(long, value_name = "WORKLOAD")]
    pub from: Option<String>,
    /// Only calls to this service; `<namespace>/<service>` for one of another namespace.
    #[arg(long, value_name = "SERVICE")]
    pub to: Option<String>,
    /// How far back to look, in seconds: 10 to 300.
    #[arg(short = 't', long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(WINDOW))]
    pub time_window: u32,
}

/// Which end of the calls a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The service that is called.
    Service,
    /// The workload that calls.
    Workload,
}

/// One kind, and perhaps one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    pub end: End,
    pub name: Option<String>,
}

fn parse_what(text: &str) -> Result<What, String> {
    let (kind, name) = match text.split_once('/') {
        Some((_, "")) => return Err("a name is missing after `/`".to_owned()),
        Some((kind, name)) => (kind, Some(name.to_owned())),
        None => (text, None),
    };
    let end = match kind.to_ascii_lowercase().as_str() {
        "service" | "services" | "svc" => End::Service,
        "workload" | "workloads" => End::Workload,
        _ => {
            return Err(format!(
                "{kind:?} is no kind that calls are counted by; use `service` or `workload`, and `/NAME` for one"
            ));
        }
    };
    Ok(What { end, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_may_be_followed_by_a_name() {
        let what = |end, name: Option<&str>| {
            Ok(What {
                end,
                name: name.map(str::to_owned),
            })
        };
        assert_eq!(parse_what("service"), what(End::Service, None));
        assert_eq!(parse_what("svc/web"), what(End::Service, Some("web")));
        assert_eq!(parse_what("Workload/w-1"), what(End::Workload, Some("w-1")));
        assert!(parse_what("service/").is_err());
        assert!(parse_what("pod/web").is_err_and(|why| why.contains("use `service`")));
    }
}
