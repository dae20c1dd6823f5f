//! What a stream would be sent by a change, found out on a copy.

use std::sync::Arc;

use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::{Cache, Published, Response, Session, Sight};

/// One resource of a response that would go out.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) kind: TypeUrl,
    pub(crate) name: Arc<str>,
    /// As the client was to have it before; `None`: not at all.
    pub(crate) before: Option<Arc<Resource>>,
    /// As it would be; `None`: removed.
    pub(crate) after: Option<Arc<Resource>>,
}

/// A state of the mesh, and resources made from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) published: &'a Arc<Published>,
}

impl Session {
    /// What would be sent as the mesh goes from one state to another, were everything until then accepted. `alone`: the stream is of one type.
    pub(crate) fn preview(&self, now: Moment<'_>, next: Moment<'_>, alone: bool) -> Vec<Sent> {
        let mut copy = self.clone();
        copy.advance(now.cache, now.published.clone());
        copy.drain(now.cache, alone);
        copy.advance(next.cache, next.published.clone());
        let responses = copy.drain(next.cache, alone);
        let sight = Sight::new(now.cache, now.published, &self.own);
        let before = |kind, name: &Arc<str>| sight.get(kind, name).map(|found| found.resource);
        let mut sent = Vec::new();
        for response in responses {
            let kind = response.kind;
            sent.extend(response.removed.into_iter().map(|name| Sent {
                before: before(kind, &name),
                kind,
                name,
                after: None,
            }));
            sent.extend(response.resources.into_iter().map(|resource| Sent {
                before: before(kind, resource.name()),
                kind,
                name: resource.name().clone(),
                after: Some(resource),
            }));
        }
        sent
    }

    fn drain(&mut self, cache: &Cache, alone: bool) -> Vec<Response> {
        let mut responses = Vec::new();
        loop {
            self.server.assume_accepted();
            let response = match alone {
                true => self.next_alone(cache),
                false => self.next(cache),
            };
            match response {
                Some(response) => responses.push(response),
                None => return responses,
            }
        }
    }
}
