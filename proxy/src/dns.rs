//! DNS for the host: `<service>.<namespace>.mesh` is answered from what the control plane tells, everything else is passed on.

mod answer;
mod forward;
mod serve;
#[cfg(test)]
mod tests;

pub use forward::Resolvers;
pub use serve::{BindError, start};

use crate::metrics::Metrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    /// Answered with addresses, or that there are none of this kind.
    Answered,
    /// There is no such service.
    Missing,
    /// Nobody could say: SERVFAIL.
    Unavailable,
    /// A resolver answered.
    Forwarded,
    /// Not understood.
    Refused,
    /// There were too many at once.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// Counts questions.
#[derive(Debug, Clone, Default)]
struct Counters {
    questions: Family<Labels, Counter>,
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let counters = Self::default();
        metrics.register(|registry| {
            let help = "DNS questions by what became of them";
            registry.register("dns_questions", help, counters.questions.clone());
        });
        counters
    }

    fn count(&self, outcome: Outcome) {
        self.questions.get_or_create(&Labels { outcome }).inc();
    }
}
