//! A session in the forms that the native proxy does not use: the state of the world, and a stream of one type alone.

use xds_api::conversation::Form;
use xds_api::envoy::service::discovery::v3::DiscoveryRequest;

use super::{Cache, Reached, Refusal, Response, Server, Session, Sight, Verdict};

impl Session {
    /// Settles how the stream speaks, before its first request. `names_only`: its client never means everything by
    /// naming nothing.
    pub(crate) fn speaking(mut self, form: Form, names_only: bool) -> Self {
        let server = match form {
            Form::Delta => Server::new(),
            Form::StateOfTheWorld => Server::of_the_world(),
        };
        self.server = if names_only {
            server.names_only()
        } else {
            server
        };
        self
    }

    /// Takes a request that names all that is wanted.
    pub(crate) fn request_state(
        &mut self,
        cache: &Cache,
        request: DiscoveryRequest,
    ) -> Result<Option<Verdict>, Refusal> {
        let request = self.server.differences(request);
        self.request(cache, request)
    }

    /// The next response that may go out now on a stream of one type: what its names would be reached from is asked for
    /// elsewhere, so nothing waits for it.
    pub(crate) fn next_alone(&mut self, cache: &Cache) -> Option<Response> {
        let sight = Sight::new(cache, &self.published, &self.own);
        let view = Reached {
            sight,
            reach: &self.reach,
            listeners_open: true,
        };
        let response = self.server.next(&view);
        if response.is_none() && self.server.is_idle() && self.nack().is_none() {
            self.clean_through = self.published.version.index;
        }
        response
    }
}
